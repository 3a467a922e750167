"""Volume verbs -> :class:`VolumeManager`."""

from __future__ import annotations

from services.engine.rpc import Context, Router
from services.engine.volumes.manager import VolumeManager
from services.protocol.api import volumes as api
from services.protocol.verbs import Filters, Nothing, Ref
from services.protocol.verbs import volumes as verbs


class _Handlers:
    def __init__(self, volumes: VolumeManager) -> None:
        self._volumes = volumes

    async def select(self, args: Filters, _: Context) -> api.VolumeList:
        return self._volumes.select(args.filters)

    async def inspect(self, args: Ref, _: Context) -> api.Volume:
        return self._volumes.get(args.ref)

    async def create(self, args: api.VolumeCreateRequest, context: Context) -> api.Volume:
        return await self._volumes.create(
            args.name, args.driver, args.driver_opts or {}, args.labels, request_id=context.request_id
        )

    async def remove(self, args: verbs.RemoveArgs, context: Context) -> Nothing:
        # A request that comes again after a restart of the engine finds its work done.
        await self._volumes.remove(args.ref, force=args.force or context.repeated)
        return Nothing()

    async def prune(self, args: Filters, _: Context) -> api.VolumePruneReply:
        return await self._volumes.prune(args.filters)


def register(router: Router, volumes: VolumeManager) -> None:
    handlers = _Handlers(volumes)
    router.add(verbs.LIST, handlers.select)
    router.add(verbs.INSPECT, handlers.inspect)
    router.add(verbs.CREATE, handlers.create)
    router.add(verbs.REMOVE, handlers.remove)
    router.add(verbs.PRUNE, handlers.prune)
