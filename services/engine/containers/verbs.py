"""The verbs of creating, looking at and changing containers."""

from __future__ import annotations

from collections.abc import AsyncIterator

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


def register(router: Router, services: Services) -> None:
    """Serve the verbs of this module on *router*."""

    async def on_create(args: verbs.CreateArgs, context: Context) -> api.CreateReply:
        return await create(services, args, context)

    async def on_inspect(args: verbs.InspectArgs, _: Context) -> api.Inspect:
        return await inspect(services, args)

    async def on_list(args: verbs.ListArgs, _: Context) -> list[api.Summary]:
        return await list_containers(services, args)

    async def on_rename(args: verbs.RenameArgs, context: Context) -> Nothing:
        await rename(services, args, repeated=context.repeated)
        return Nothing()

    async def on_update(args: verbs.UpdateArgs, _: Context) -> api.WarningsReply:
        return await update(services, args)

    async def on_prune(args: Filters, _: Context) -> api.PruneReply:
        return await prune(services, args)

    async def on_top(args: verbs.TopArgs, _: Context) -> api.TopReply:
        return await top(services, args)

    def on_stats(args: verbs.StatsArgs, _: Context) -> AsyncIterator[bytes]:
        return stats(services, args)

    router.add(verbs.CREATE, on_create)
    router.add(verbs.INSPECT, on_inspect)
    router.add(verbs.LIST, on_list)
    router.add(verbs.RENAME, on_rename)
    router.add(verbs.UPDATE, on_update)
    router.add(verbs.PRUNE, on_prune)
    router.add(verbs.TOP, on_top)
    router.add_stream(verbs.STATS, on_stats)
