"""The verbs on networks, as the API server calls them.

A request that comes again after the engine was restarted succeeds where its work is found done.
"""

from __future__ import annotations

from services.engine.networks.connect import AlreadyConnected, NotConnected
from services.engine.networks.controller import NetworkController
from services.engine.rpc import Context, Router
from services.protocol.api.networks import (
    NetworkCreateReply,
    NetworkCreateRequest,
    NetworkInspect,
    NetworkPruneReply,
)
from services.protocol.errors import NotFound
from services.protocol.verbs import Filters, Nothing, Ref
from services.protocol.verbs import networks as verbs


def register(router: Router, controller: NetworkController) -> None:
    """Every verb of :mod:`services.protocol.verbs.networks`."""

    async def list_(args: Filters, _: Context) -> list[NetworkInspect]:
        return list(controller.list(args.filters))

    async def inspect(args: verbs.InspectArgs, _: Context) -> NetworkInspect:
        return controller.inspect(args.ref, args.scope)

    async def create(args: NetworkCreateRequest, context: Context) -> NetworkCreateReply:
        made = controller.made_by(context.request_id) if context.repeated else None
        return made or await controller.create(args, context.request_id)

    async def remove(args: Ref, context: Context) -> Nothing:
        try:
            await controller.remove(args.ref)
        except NotFound:
            if not context.repeated:
                raise
        return Nothing()

    async def connect(args: verbs.ConnectArgs, context: Context) -> Nothing:
        try:
            await controller.connect(args.ref, args.request)
        except AlreadyConnected:
            if not context.repeated:
                raise
        return Nothing()

    async def disconnect(args: verbs.DisconnectArgs, context: Context) -> Nothing:
        try:
            await controller.disconnect(args.ref, args.request)
        except NotConnected:
            if not context.repeated:
                raise
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
