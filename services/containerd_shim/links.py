"""The task service's connection to one shim."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.containerd_shim.packets import Packets
from services.protocol import fdpass
from services.protocol import task_pb2 as pb
from services.protocol.errors import Unavailable, from_failure
from services.protocol.shim import ShimEvent, Subscribe, TaskAnswer, TaskCall

_decode = msgspec.msgpack.Decoder(TaskAnswer | ShimEvent).decode


class ShimDied(Unavailable):
    """It has died, or ended, and a call was not answered."""


class ShimLink:
    """Calls of a shim's methods; its events go to *on_event*, its loss to *on_lost*."""

    def __init__(
        self,
        container_id: str,
        socket: Path,
        on_event: Callable[[pb.Envelope], None],
        on_lost: Callable[[ShimLink], None],
    ) -> None:
        self.id = container_id
        self.socket = socket
        #: Pid of the shim, once it has told.
        self.pid = 0
        #: The shim has answered its Delete: its end is no loss.
        self.deleted = False
        #: It answers nothing any more.
        self.dead = False
        self._final = 0
        self._on_event = on_event
        self._on_lost = on_lost
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._seq = 0
        self._synchronised: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._packets = Packets(fdpass.connect(socket), self._received, self._lost)
        self._packets.send(Subscribe())

    async def synchronised(self) -> None:
        """Wait until the shim has sent the events it keeps; raises ``Unavailable`` if it died.

        It lives, as far as is known, until the caller suspends the next time.
        """
        await asyncio.shield(self._synchronised)
        if self.dead:  # it died between its last event and now
            raise self._death()

    async def call(self, method: str, request: bytes, *, final: bool = False) -> bytes:
        """The serialised response of the shim's *method*; raises what the shim raised.

        After success of a *final* call the shim ends.
        """
        if self.dead:
            raise self._death()
        self._seq += 1
        seq = self._seq
        if final:
            self._final = seq
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[seq] = future
        try:
            self._packets.send(TaskCall(seq, method, request))
            return await future
        finally:
            self._calls.pop(seq, None)

    def close(self) -> None:
        self._packets.close()
        self._fail(Unavailable(f"the shim of container {self.id} is being left"))

    def _received(self, data: bytes) -> None:
        message = _decode(data)
        if isinstance(message, ShimEvent):
            envelope = pb.Envelope.FromString(message.envelope)
            if envelope.HasField("synchronised"):
                if not self._synchronised.done():
                    self._synchronised.set_result(None)
            else:
                self._on_event(envelope)
            return
        if message.seq == self._final and message.failure is None:
            self.deleted = True  # also when the engine that asked is gone
        future = self._calls.get(message.seq)
        if future is None or future.done():
            return
        if message.failure is not None:
            future.set_exception(from_failure(message.failure))
        else:
            future.set_result(message.response)

    def _lost(self) -> None:
        self.dead = True
        self._on_lost(self)
        self._fail(self._death())

    def _death(self) -> ShimDied:
        return ShimDied(f"the shim of container {self.id} has died")

    def _fail(self, error: Exception) -> None:
        for call in self._calls.values():
            if not call.done():
                call.set_exception(error)
        if not self._synchronised.done():
            self._synchronised.set_exception(error)
        if not self._synchronised.cancelled():
            self._synchronised.exception()  # may have had nobody waiting
