"""The engine's client of the task service: typed calls, errors of our taxonomy, resumed events."""

from __future__ import annotations

import asyncio
import logging
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
READY_TIMEOUT = 30.0


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
        #: Timestamp of the last event handed out (Unix nanoseconds).
        self.last_event = 0

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

    async def start_shim(self, request: pb.StartShimRequest) -> pb.StartShimResponse:
        answer: pb.StartShimResponse = await self._call(self._tasks.StartShim(request, wait_for_ready=True))
        return answer

    async def create(self, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        answer: pb.CreateTaskResponse = await self._call(self._tasks.Create(request))
        return answer

    async def start(self, request: pb.StartRequest) -> pb.StartResponse:
        answer: pb.StartResponse = await self._call(self._tasks.Start(request))
        return answer

    async def delete(self, container_id: str, exec_id: str = "", *, kill: bool = False) -> pb.DeleteResponse:
        request = pb.DeleteRequest(id=container_id, exec_id=exec_id, kill=kill)
        answer: pb.DeleteResponse = await self._call(self._tasks.Delete(request, wait_for_ready=True))
        return answer

    async def state(self, container_id: str, exec_id: str = "") -> pb.StateResponse:
        request = pb.StateRequest(id=container_id, exec_id=exec_id)
        answer: pb.StateResponse = await self._call(self._tasks.State(request, wait_for_ready=True))
        return answer

    async def tasks(self) -> list[pb.StateResponse]:
        return list((await self._call(self._tasks.List(pb.ListRequest(), wait_for_ready=True))).tasks)

    async def kill(self, container_id: str, signal: int, *, exec_id: str = "", all: bool = False) -> None:
        request = pb.KillRequest(id=container_id, exec_id=exec_id, signal=signal, all=all)
        await self._call(self._tasks.Kill(request, wait_for_ready=True))

    async def exec(self, request: pb.ExecProcessRequest) -> None:
        await self._call(self._tasks.Exec(request, wait_for_ready=True))

    async def resize(self, container_id: str, exec_id: str, *, height: int, width: int) -> None:
        request = pb.ResizePtyRequest(id=container_id, exec_id=exec_id, height=height, width=width)
        await self._call(self._tasks.ResizePty(request, wait_for_ready=True))

    async def pids(self, container_id: str) -> list[int]:
        request = pb.PidsRequest(id=container_id)
        return list((await self._call(self._tasks.Pids(request, wait_for_ready=True))).pids)

    async def stats(self, container_id: str) -> pb.StatsResponse:
        answer: pb.StatsResponse = await self._call(
            self._tasks.Stats(pb.StatsRequest(id=container_id), wait_for_ready=True)
        )
        return answer

    async def pause(self, container_id: str) -> None:
        await self._call(self._tasks.Pause(pb.PauseRequest(id=container_id), wait_for_ready=True))

    async def resume(self, container_id: str) -> None:
        await self._call(self._tasks.Resume(pb.ResumeRequest(id=container_id), wait_for_ready=True))

    async def update(self, container_id: str, resources: bytes) -> None:
        request = pb.UpdateTaskRequest(id=container_id, resources=resources)
        await self._call(self._tasks.Update(request, wait_for_ready=True))

    async def events(self, handle: Callable[[pb.Envelope], Awaitable[None]]) -> None:
        """Hand every event to *handle*, in order, until cancelled; resumes where it stopped.

        After a reconnect retained events come again: *handle* is idempotent.
        """
        while True:
            try:
                request = pb.SubscribeRequest(since=self.last_event)
                async for envelope in self._events.Subscribe(request, wait_for_ready=True):
                    await handle(envelope)
                    self.last_event = max(self.last_event, envelope.timestamp)
            except grpc.aio.AioRpcError as error:
                log.warning("events of containerd-shim were interrupted: %s", error.details())
            await asyncio.sleep(0.05)  # pace of reconnecting; wait_for_ready does the waiting

    async def close(self) -> None:
        await self._channel.close(grace=None)
