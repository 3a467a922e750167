"""The gRPC services ``Tasks`` and ``Events``: each call finds its shim and is passed on."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from services.containerd_shim.hub import EventHub
from services.containerd_shim.registry import Registry
from services.protocol import grpc_errors
from services.protocol import task_pb2 as pb
from services.protocol.errors import WharfError

log = logging.getLogger(__name__)

TASKS = pb.DESCRIPTOR.services_by_name["Tasks"]
EVENTS = pb.DESCRIPTOR.services_by_name["Events"]

Context = Any


async def _abort(context: Context, error: Exception) -> None:
    if not isinstance(error, WharfError):
        log.error("a call failed", exc_info=error)
    code, details, metadata = grpc_errors.to_status(error)
    await context.abort(code, details, metadata)


def _forward(registry: Registry, method: str, request_type: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that the shim implements: its response is passed on as it came."""

    async def run(request: Any, context: Context) -> bytes:
        try:
            return await registry.call(request.id, method, request.SerializeToString())
        except Exception as error:
            await _abort(context, error)
            raise

    return grpc.unary_unary_rpc_method_handler(run, request_deserializer=request_type.FromString)


def _own(run: Callable[[Any], Awaitable[Any]], request_type: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that the service implements."""

    async def guarded(request: Any, context: Context) -> Any:
        try:
            return await run(request)
        except Exception as error:
            await _abort(context, error)
            raise

    return grpc.unary_unary_rpc_method_handler(
        guarded,
        request_deserializer=request_type.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


def _tasks(registry: Registry) -> grpc.GenericRpcHandler[Any, Any]:
    async def list_(_request: pb.ListRequest) -> pb.ListResponse:
        return pb.ListResponse(tasks=await registry.list())

    own: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "StartShim": registry.start,
        "List": list_,
        "Connect": registry.connect,
    }
    handlers = {}
    for method in TASKS.methods:
        request_type = getattr(pb, method.input_type.name)
        if method.name in own:
            handlers[method.name] = _own(own[method.name], request_type)
        else:
            handlers[method.name] = _forward(registry, method.name, request_type)
    return grpc.method_handlers_generic_handler(TASKS.full_name, handlers)


def _events(hub: EventHub) -> grpc.GenericRpcHandler[Any, Any]:
    async def subscribe(request: pb.SubscribeRequest, _context: Context) -> AsyncIterator[pb.Envelope]:
        async for envelope in hub.subscribe(request.since):
            yield envelope

    handler = grpc.unary_stream_rpc_method_handler(
        subscribe,
        request_deserializer=pb.SubscribeRequest.FromString,
        response_serializer=pb.Envelope.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(EVENTS.full_name, {"Subscribe": handler})


def make_server(registry: Registry, hub: EventHub) -> grpc.aio.Server:
    """The server, not yet bound."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_tasks(registry), _events(hub)))
    return server
