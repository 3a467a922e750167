"""The verbs of creating, looking at and changing containers."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from services.engine.containers.create import create
from services.engine.containers.inspect import inspect
from services.engine.containers.listing import list_containers
from services.engine.containers.prune import prune
from services.engine.containers.rename import rename
from services.engine.containers.services import Services
from services.engine.containers.stats import stats
from services.engine.containers.top import top
from services.engine.containers.update import update
from services.engine.rpc import Context, Router
from services.protocol.api import containers as api
from services.protocol.verbs import Filters, Nothing
from services.protocol.verbs import containers as verbs


class _Handlers:
    """One method per verb: look up, run, answer."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def create(self, args: verbs.CreateArgs, context: Context) -> api.CreateReply:
        return await create(self._services, args, context)

    async def inspect(self, args: verbs.InspectArgs, _: Context) -> api.Inspect:
        return await inspect(self._services, args)

    async def list_(self, args: verbs.ListArgs, _: Context) -> list[api.Summary]:
        return await list_containers(self._services, args)

    async def rename(self, args: verbs.RenameArgs, context: Context) -> Nothing:
        await rename(self._services, args, repeated=context.repeated)
        return Nothing()

    async def update(self, args: verbs.UpdateArgs, _: Context) -> api.WarningsReply:
        return await update(self._services, args)

    async def prune(self, args: Filters, _: Context) -> api.PruneReply:
        return await prune(self._services, args)

    async def top(self, args: verbs.TopArgs, _: Context) -> api.TopReply:
        return await top(self._services, args)

    def stats(self, args: verbs.StatsArgs, _: Context) -> AsyncGenerator[bytes, None]:
        return stats(self._services, args)


def register(router: Router, services: Services) -> None:
    """Serve the verbs of this module on *router*."""
    handlers = _Handlers(services)
    router.add(verbs.CREATE, handlers.create)
    router.add(verbs.INSPECT, handlers.inspect)
    router.add(verbs.LIST, handlers.list_)
    router.add(verbs.RENAME, handlers.rename)
    router.add(verbs.UPDATE, handlers.update)
    router.add(verbs.PRUNE, handlers.prune)
    router.add(verbs.TOP, handlers.top)
    router.add_stream(verbs.STATS, handlers.stats)
