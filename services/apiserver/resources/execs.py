"""``/containers/{id}/exec`` and ``/exec/{id}``."""

from __future__ import annotations

from falcon.asgi import Request, Response

from services.apiserver import body, reply, shapes, upgrade
from services.apiserver.client import Engine
from services.apiserver.query import Query
from services.protocol.api import execs as api
from services.protocol.errors import InvalidParameter
from services.protocol.verbs import Ref
from services.protocol.verbs import execs as verbs
from services.protocol.verbs.containers import ResizeArgs


class Execs:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_post_create(self, req: Request, resp: Response, name: str) -> None:
        config = await body.read_json(req, api.ExecConfig)
        config.console_size = shapes.console_size(config.console_size, "ExecCreateRequest")
        if req.context.version < (1, 42):
            config.console_size = None
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        result = await self._engine.document(verbs.CREATE, verbs.CreateArgs(name, config))
        reply.document(resp, result, 201)

    async def on_post_start(self, req: Request, resp: Response, name: str) -> None:
        start = await body.read_json(req, api.ExecStart)
        start.console_size = shapes.console_size(start.console_size, "ExecStartRequest")
        if req.context.version < (1, 42) or not start.tty:
            start.console_size = None
        stream = await self._engine.call(verbs.START, verbs.StartArgs(name, start))
        if start.detach:
            reply.nothing(resp, 200)
        else:
            await upgrade.stream(req, stream)

    async def on_get_json(self, req: Request, resp: Response, name: str) -> None:
        reply.document(resp, await self._engine.document(verbs.INSPECT, Ref(name)))

    async def on_post_resize(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        height, width = query.dimension("h", "height"), query.dimension("w", "width")
        await self._engine.call(verbs.RESIZE, ResizeArgs(name, height, width))
        reply.nothing(resp, 200)
