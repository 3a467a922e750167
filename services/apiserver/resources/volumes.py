"""``/volumes``."""

from __future__ import annotations

from falcon.asgi import Request, Response

from services.apiserver import body, reply
from services.apiserver.client import Engine
from services.apiserver.query import Query
from services.apiserver.resources.absent import NO_MANAGER
from services.protocol.api import volumes as api
from services.protocol.errors import Unavailable
from services.protocol.verbs import Filters, Ref
from services.protocol.verbs import volumes as verbs

#: API version since which volumes may be a cluster's.
_WITH_CLUSTERS = (1, 42)


class Volumes:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def on_get_list(self, req: Request, resp: Response) -> None:
        filters = Filters(Query(req).filters("error reading volume filters: "))
        reply.document(resp, await self._engine.document(verbs.LIST, filters))

    async def on_get(self, req: Request, resp: Response, name: str) -> None:
        reply.document(resp, await self._engine.document(verbs.INSPECT, Ref(name)))

    async def on_post_create(self, req: Request, resp: Response) -> None:
        request = await body.read_json(req, api.VolumeCreateRequest)
        if request.cluster_volume_spec is not None and req.context.version >= _WITH_CLUSTERS:
            raise Unavailable(NO_MANAGER)
        reply.document(resp, await self._engine.document(verbs.CREATE, request), 201)

    async def on_put(self, req: Request, resp: Response, name: str) -> None:
        raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")

    async def on_delete(self, req: Request, resp: Response, name: str) -> None:
        await self._engine.call(verbs.REMOVE, verbs.RemoveArgs(name, Query(req).flag("force")))
        reply.nothing(resp)

    async def on_post_prune(self, req: Request, resp: Response) -> None:
        filters = Filters(Query(req).filters())
        if req.context.version < (1, 42):
            filters.filters.setdefault("all", ["true"])
        reply.document(resp, await self._engine.document(verbs.PRUNE, filters))
