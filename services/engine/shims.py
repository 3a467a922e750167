"""The engine's client of the task service: typed calls, errors of our taxonomy, resumed events."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from services.protocol import grpc_errors
from services.protocol import task_pb2 as pb
from services.protocol import task_pb2_grpc as rpc
from services.protocol.errors import Unavailable

log = logging.getLogger(__name__)

#: Seconds that a call waits for a task service that is starting.
READY_TIMEOUT = 90.0
#: How many task services may go away over one call.
ATTEMPTS = 10
#: Containers whose last event is remembered.
SEEN_LIMIT = 10_000


class Shims:
    """One channel for the life of the engine; it reconnects by itself."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.aio.insecure_channel(
            f"unix:{socket}",
            options=[
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 500),
            ],
        )
        # grpc's generated stubs carry no types; the methods below give them theirs.
        self._tasks: Any = rpc.TasksStub(self._channel)  # type: ignore[no-untyped-call]
        self._events: Any = rpc.EventsStub(self._channel)  # type: ignore[no-untyped-call]
        #: Container id -> timestamp of its last event handed out (Unix nanoseconds).
        self._seen: OrderedDict[str, int] = OrderedDict()

    async def ready(self) -> None:
        """Wait until the task service answers; raises ``Unavailable`` after READY_TIMEOUT."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), READY_TIMEOUT)
        except TimeoutError as error:
            raise Unavailable("containerd-shim does not answer") from error

    async def _call(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise grpc_errors.from_rpc_error(error) from error

    async def _repeated(self, method: Any, request: Any) -> Any:
        """A call that may be made twice: again when the task service went away before it answered.

        The next one may go away as well: who kills a service may do it again.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await method(request, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if not grpc_errors.is_lost(error):
                    raise grpc_errors.from_rpc_error(error) from error
        return await self._call(method(request, wait_for_ready=True))

    async def start_shim(self, request: pb.StartShimRequest) -> pb.StartShimResponse:
        answer: pb.StartShimResponse = await self._repeated(self._tasks.StartShim, request)
        return answer

    async def create(self, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        answer: pb.CreateTaskResponse = await self._call(self._tasks.Create(request))
        return answer

    async def start(self, request: pb.StartRequest) -> pb.StartResponse:
        answer: pb.StartResponse = await self._call(self._tasks.Start(request))
        return answer

    async def delete(
        self, container_id: str, exec_id: str = "", *, kill: bool = False, idle: bool = False
    ) -> pb.DeleteResponse:
        request = pb.DeleteRequest(id=container_id, exec_id=exec_id, kill=kill, idle=idle)
        answer: pb.DeleteResponse = await self._repeated(self._tasks.Delete, request)
        if not exec_id:
            self._seen.pop(container_id, None)  # the next shim has a clock of its own
        return answer

    async def state(self, container_id: str, exec_id: str = "") -> pb.StateResponse:
        request = pb.StateRequest(id=container_id, exec_id=exec_id)
        answer: pb.StateResponse = await self._repeated(self._tasks.State, request)
        return answer

    async def tasks(self) -> list[pb.StateResponse]:
        return list((await self._repeated(self._tasks.List, pb.ListRequest())).tasks)

    async def kill(self, container_id: str, signal: int, *, exec_id: str = "", all: bool = False) -> None:
        request = pb.KillRequest(id=container_id, exec_id=exec_id, signal=signal, all=all)
        await self._repeated(self._tasks.Kill, request)

    async def exec(self, request: pb.ExecProcessRequest) -> None:
        await self._call(self._tasks.Exec(request, wait_for_ready=True))

    async def check_user(self, container_id: str, user: pb.UserRef) -> None:
        """Raises InvalidParameter (Docker's texts) unless *user* is known inside the running container."""
        request = pb.ExecProcessRequest(id=container_id, user=user, only_check_user=True)
        await self._repeated(self._tasks.Exec, request)

    async def resize(self, container_id: str, exec_id: str, *, height: int, width: int) -> None:
        request = pb.ResizePtyRequest(id=container_id, exec_id=exec_id, height=height, width=width)
        await self._repeated(self._tasks.ResizePty, request)

    async def pids(self, container_id: str) -> list[int]:
        request = pb.PidsRequest(id=container_id)
        return list((await self._repeated(self._tasks.Pids, request)).pids)

    async def stats(self, container_id: str) -> pb.StatsResponse:
        answer: pb.StatsResponse = await self._repeated(self._tasks.Stats, pb.StatsRequest(id=container_id))
        return answer

    async def pause(self, container_id: str) -> None:
        await self._repeated(self._tasks.Pause, pb.PauseRequest(id=container_id))

    async def resume(self, container_id: str) -> None:
        await self._repeated(self._tasks.Resume, pb.ResumeRequest(id=container_id))

    async def update(self, container_id: str, resources: bytes) -> None:
        request = pb.UpdateTaskRequest(id=container_id, resources=resources)
        await self._repeated(self._tasks.Update, request)

    async def events(self, handle: Callable[[pb.Envelope], Awaitable[None]]) -> None:
        """Hand every event to *handle*, those of one container in order, until cancelled.

        Each connection begins with all that the shims retain, because clocks of different shims do
        not say what the last connection has missed; what has been handed out is left out.
        """
        while True:
            try:
                request = pb.SubscribeRequest(since=0)
                async for envelope in self._events.Subscribe(request, wait_for_ready=True):
                    if self._is_news(envelope):
                        await handle(envelope)
            except grpc.aio.AioRpcError as error:
                log.warning("events of containerd-shim were interrupted: %s", error.details())
            await asyncio.sleep(0.05)  # pace of reconnecting; wait_for_ready does the waiting

    def _is_news(self, envelope: pb.Envelope) -> bool:
        """Timestamps of one shim rise strictly."""
        if envelope.timestamp <= self._seen.get(envelope.id, 0):
            return False
        self._seen[envelope.id] = envelope.timestamp
        self._seen.move_to_end(envelope.id)
        if len(self._seen) > SEEN_LIMIT:
            self._seen.popitem(last=False)
        return True

    async def close(self) -> None:
        await self._channel.close(grace=None)
