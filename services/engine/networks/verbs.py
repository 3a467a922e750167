"""The verbs on networks, as the API server calls them."""

from __future__ import annotations

from services.engine.networks.controller import NetworkController
from services.engine.rpc import Context, Router
from services.protocol.api.networks import (
    NetworkCreateReply,
    NetworkCreateRequest,
    NetworkInspect,
    NetworkPruneReply,
)
from services.protocol.verbs import Filters, Nothing, Ref
from services.protocol.verbs import networks as verbs


def register(router: Router, controller: NetworkController) -> None:
    """Every verb of :mod:`services.protocol.verbs.networks`."""

    async def list_(args: Filters, _: Context) -> list[NetworkInspect]:
        return list(controller.list(args.filters))

    async def inspect(args: verbs.InspectArgs, _: Context) -> NetworkInspect:
        return controller.inspect(args.ref, args.scope)

    async def create(args: NetworkCreateRequest, _: Context) -> NetworkCreateReply:
        return await controller.create(args)

    async def remove(args: Ref, _: Context) -> Nothing:
        await controller.remove(args.ref)
        return Nothing()

    async def connect(args: verbs.ConnectArgs, _: Context) -> Nothing:
        await controller.connect(args.ref, args.request)
        return Nothing()

    async def disconnect(args: verbs.DisconnectArgs, _: Context) -> Nothing:
        await controller.disconnect(args.ref, args.request)
        return Nothing()

    async def prune(args: Filters, _: Context) -> NetworkPruneReply:
        return await controller.prune(args.filters)

    router.add(verbs.LIST, list_)
    router.add(verbs.INSPECT, inspect)
    router.add(verbs.CREATE, create)
    router.add(verbs.REMOVE, remove)
    router.add(verbs.CONNECT, connect)
    router.add(verbs.DISCONNECT, disconnect)
    router.add(verbs.PRUNE, prune)
