"""``/networks``."""

from __future__ import annotations

from falcon.asgi import Request, Response

from services.apiserver import body, reply, shapes
from services.apiserver.client import Engine
from services.apiserver.query import Query
from services.protocol.api import networks as api
from services.protocol.errors import InvalidParameter
from services.protocol.verbs import Filters, Ref
from services.protocol.verbs import networks as verbs

#: API version since which a network tells how many of its addresses are taken.
_WITH_STATUS = (1, 52)


class Networks:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_get_list(self, req: Request, resp: Response) -> None:
        filters = Filters(Query(req).filters())
        reply.document(resp, await self._engine.document(verbs.LIST, filters))

    async def on_get(self, req: Request, resp: Response, name: str) -> None:
        query = Query(req)
        status = req.context.version >= _WITH_STATUS
        args = verbs.InspectArgs(name, query.flag("verbose"), query.text("scope"), status)
        reply.document(resp, await self._engine.document(verbs.INSPECT, args))

    async def on_post_create(self, req: Request, resp: Response) -> None:
        request = await body.read_json(req, api.NetworkCreateRequest)
        shapes.network_create(request)
        reply.document(resp, await self._engine.document(verbs.CREATE, request), 201)

    async def on_delete(self, req: Request, resp: Response, name: str) -> None:
        await self._engine.call(verbs.REMOVE, Ref(name))
        reply.nothing(resp)

    async def on_post_connect(self, req: Request, resp: Response, name: str) -> None:
        request = await body.read_json(req, api.ConnectRequest)
        shapes.endpoint(request.endpoint_config)
        if not request.container:
            raise InvalidParameter('invalid name or ID supplied: ""')
        await self._engine.call(verbs.CONNECT, verbs.ConnectArgs(name, request))
        reply.nothing(resp, 200)

    async def on_post_disconnect(self, req: Request, resp: Response, name: str) -> None:
        request = await body.read_json(req, api.DisconnectRequest)
        if not request.container:
            raise InvalidParameter('invalid name or ID supplied: ""')
        await self._engine.call(verbs.DISCONNECT, verbs.DisconnectArgs(name, request))
        reply.nothing(resp, 200)

    async def on_post_prune(self, req: Request, resp: Response) -> None:
        filters = Filters(Query(req).filters())
        reply.document(resp, await self._engine.document(verbs.PRUNE, filters))
