"""``/containers``: configuration, life cycle and state."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import msgspec
from falcon.asgi import Request, Response

from services.apiserver import body, gojson, reply, shapes
from services.apiserver.client import Engine
from services.apiserver.query import Query
from services.apiserver.views import containers as views
from services.protocol.api import containers as api
from services.protocol.errors import InvalidParameter, SystemError_
from services.protocol.verbs import Filters, Ref
from services.protocol.verbs import containers as verbs

_CONFIG_FIELDS = {field.encode_name.lower() for field in msgspec.structs.fields(api.Config)}
_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
#: Bytes up to which the body of a start is nothing (moby: a document that says something is longer).
_SHORTEST_DOCUMENT = 7
_CONDITIONS = ("not-running", "next-exit", "removed")


class Containers:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_get_list(self, req: Request, resp: Response) -> None:
        query = Query(req)
        args = verbs.ListArgs(
            all=query.flag("all"),
            limit=query.integer("limit") or 0,
            size=query.flag("size"),
            filters=query.filters(),
        )
        rows = await self._engine.document(verbs.LIST, args)
        reply.document(resp, [views.summary(row, req.context.version) for row in rows])

    async def on_post_create(self, req: Request, resp: Response) -> None:
        query = Query(req)
        name = query.text("name")
        if query.has("name") and name and not _NAME.fullmatch(name):
            raise InvalidParameter(
                f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        document = await body.document(req, required=True)
        document = {} if document is None else document
        request = gojson.convert(document, api.CreateRequest)
        shapes.create_request(request)
        if not any(key.lower() in _CONFIG_FIELDS for key in document):
            raise InvalidParameter("config cannot be empty in order to create a container")
        args = verbs.CreateArgs(name, request, query.platform(), req.context.version)
        reply.document(resp, await self._engine.document(verbs.CREATE, args), 201)

    async def on_get_json(self, req: Request, resp: Response, name: str) -> None:
        args = verbs.InspectArgs(name, size=Query(req).flag("size"))
        found = await self._engine.document(verbs.INSPECT, args)
        reply.document(resp, views.inspect(found, req.context.version))

    async def on_post_start(self, req: Request, resp: Response, name: str) -> None:
        if (req.content_length or 0) > _SHORTEST_DOCUMENT or req.get_header("transfer-encoding"):
            raise InvalidParameter(
                "starting container with non-empty request body was deprecated since API v1.22 "
                "and removed in v1.24"
            )
        await self._engine.call(verbs.START, Ref(name))
        reply.nothing(resp)

    async def on_post_stop(self, req: Request, resp: Response, name: str) -> None:
        await self._engine.call(verbs.STOP, self._stop_args(req, name))
        reply.nothing(resp)

    async def on_post_restart(self, req: Request, resp: Response, name: str) -> None:
        try:
            args = self._stop_args(req, name)
        except InvalidParameter as error:
            raise SystemError_(str(error)) from None  # of no kind in dockerd, unlike that of stop
        await self._engine.call(verbs.RESTART, args)
        reply.nothing(resp)

    @staticmethod
    def _stop_args(req: Request, name: str) -> verbs.StopArgs:
        query = Query(req)
        signal = query.text("signal") if req.context.version >= (1, 42) else ""
        return verbs.StopArgs(name, query.integer("t"), signal)

    async def on_post_kill(self, req: Request, resp: Response, name: str) -> None:
        signal = Query(req).text("signal") or "SIGKILL"
        await self._engine.call(verbs.KILL, verbs.KillArgs(name, signal))
        reply.nothing(resp)

    async def on_post_pause(self, req: Request, resp: Response, name: str) -> None:
        await self._engine.call(verbs.PAUSE, Ref(name))
        reply.nothing(resp)

    async def on_post_unpause(self, req: Request, resp: Response, name: str) -> None:
        await self._engine.call(verbs.UNPAUSE, Ref(name))
        reply.nothing(resp)

    async def on_post_rename(self, req: Request, resp: Response, name: str) -> None:
        await self._engine.call(verbs.RENAME, verbs.RenameArgs(name, Query(req).text("name")))
        reply.nothing(resp)

    async def on_post_resize(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        height, width = query.dimension("h", "height"), query.dimension("w", "width")
        await self._engine.call(verbs.RESIZE, verbs.ResizeArgs(name, height, width))
        reply.nothing(resp, 200)

    async def on_post_update(self, req: Request, resp: Response, name: str) -> None:
        request = await body.read_json(req, api.UpdateRequest)
        shapes.resources(request, "UpdateConfig.Resources")
        if request.pids_limit is not None:
            request.pids_limit = max(request.pids_limit, 0) if req.context.version >= (1, 40) else None
        result = await self._engine.document(verbs.UPDATE, verbs.UpdateArgs(name, request))
        reply.document(resp, result)

    async def on_delete(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        args = verbs.RemoveArgs(name, query.flag("force"), query.flag("v"), query.flag("link"))
        await self._engine.call(verbs.REMOVE, args)
        reply.nothing(resp)

    async def on_post_prune(self, req: Request, resp: Response) -> None:
        filters = Filters(Query(req).filters())
        reply.document(resp, await self._engine.document(verbs.PRUNE, filters))

    async def on_get_top(self, req: Request, resp: Response, name: str) -> None:
        args = verbs.TopArgs(name, Query(req).text("ps_args", "-ef"))
        reply.document(resp, await self._engine.document(verbs.TOP, args))

    async def on_get_changes(self, req: Request, resp: Response, name: str) -> None:
        changes = await self._engine.document(verbs.CHANGES, Ref(name))
        reply.document(resp, changes)

    async def on_post_wait(self, req: Request, resp: Response, name: str) -> None:
        """The head is sent when the condition is being watched: ``docker run`` starts only then."""
        condition = Query(req).text("condition") or "not-running"
        if req.context.version < (1, 30):  # it had none
            condition = "not-running"
        if condition not in _CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        exchange = body.exchange_of(req)
        async with contextlib.aclosing(
            self._engine.stream(verbs.WAIT, verbs.WaitArgs(name, condition))
        ) as items:
            with exchange.bound_to_client():
                async for item in items:
                    if not exchange.taken:
                        await exchange.start(200, {"Content-Type": reply.JSON})
                    if item.result is not None:
                        await exchange.finish(msgspec.json.encode(item.result) + b"\n")

    async def on_get_stats(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        stream, one_shot = query.flag("stream", True), query.flag("one-shot")
        if stream and one_shot:
            raise InvalidParameter("cannot have stream=true and one-shot=true")
        items = self._engine.stream(verbs.STATS, verbs.StatsArgs(name, stream, one_shot))
        await reply.progress(req, items)

    async def on_post_commit(self, req: Request, resp: Response) -> None:
        query = Query(req)
        config: Any = await body.document(req)
        args = verbs.CommitArgs(
            ref=query.text("container"),
            repo=query.text("repo"),
            tag=query.text("tag"),
            comment=query.text("comment"),
            author=query.text("author"),
            pause=query.flag("pause", True),
            changes=query.all("changes"),
            config=gojson.convert(config, api.Config) if config is not None else None,
        )
        reply.document(resp, await self._engine.document(verbs.COMMIT, args), 201)
