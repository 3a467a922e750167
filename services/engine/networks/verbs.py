"""The verbs on networks, as the API server calls them.

A request that comes again after the engine was restarted succeeds where its work is found done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from services.engine.networks.connect import AlreadyConnected, NotConnected
from services.engine.networks.controller import NetworkController
from services.engine.rpc import Context, Router
from services.protocol.api.networks import (
    NetworkCreateReply,
    NetworkCreateRequest,
    NetworkInspect,
    NetworkPruneReply,
)
from services.protocol.errors import NotFound, WharfError
from services.protocol.verbs import Filters, Nothing, Ref
from services.protocol.verbs import networks as verbs


class _Handlers:
    """One method per verb: look up, run, answer."""

    def __init__(self, controller: NetworkController) -> None:
        self._controller = controller

    async def list_(self, args: Filters, _: Context) -> list[NetworkInspect]:
        return list(self._controller.list(args.filters))

    async def inspect(self, args: verbs.InspectArgs, _: Context) -> NetworkInspect:
        return self._controller.inspect(args.ref, args.scope, status=args.status)

    async def create(self, args: NetworkCreateRequest, context: Context) -> NetworkCreateReply:
        made = self._controller.made_by(context.request_id) if context.repeated else None
        return made or await self._controller.create(args, context.request_id)

    async def remove(self, args: Ref, context: Context) -> Nothing:
        with _done(NotFound, context):
            await self._controller.remove(args.ref)
        return Nothing()

    async def connect(self, args: verbs.ConnectArgs, context: Context) -> Nothing:
        with _done(AlreadyConnected, context):
            await self._controller.connect(args.ref, args.request)
        return Nothing()

    async def disconnect(self, args: verbs.DisconnectArgs, context: Context) -> Nothing:
        with _done(NotConnected, context):
            await self._controller.disconnect(args.ref, args.request)
        return Nothing()

    async def prune(self, args: Filters, _: Context) -> NetworkPruneReply:
        return await self._controller.prune(args.filters)


def register(router: Router, controller: NetworkController) -> None:
    """Every verb of :mod:`services.protocol.verbs.networks`."""
    handlers = _Handlers(controller)
    router.add(verbs.LIST, handlers.list_)
    router.add(verbs.INSPECT, handlers.inspect)
    router.add(verbs.CREATE, handlers.create)
    router.add(verbs.REMOVE, handlers.remove)
    router.add(verbs.CONNECT, handlers.connect)
    router.add(verbs.DISCONNECT, handlers.disconnect)
    router.add(verbs.PRUNE, handlers.prune)


@contextlib.contextmanager
def _done(error: type[WharfError], context: Context) -> Iterator[None]:
    """*error* of a repeated request means that the first one succeeded."""
    try:
        yield
    except error:
        if not context.repeated:
            raise
