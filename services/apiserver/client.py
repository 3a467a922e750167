"""Requests to the engine: DEALER side of :mod:`services.protocol.messages`.

Life of a request: it is sent as soon as the engine is connected; when the engine goes away before
the answer (or, in stopping, answers "cancelled" unasked), it is sent again under its id with
``attempt`` counted up; when no engine has been there for ``WAIT`` seconds, it fails with
:class:`Unavailable`. A caller that is cancelled, or stops iterating, sends ``Cancel``.

Descriptors travel ahead of their request under a ticket and are this module's from the moment they
are passed in. A request whose descriptors have been delivered cannot be repeated: the engine may
have read from them. For the same reason a caller that is cancelled returns only once the engine has dropped
such a request: the end of what it reads from must not come earlier.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, TypeVar

import msgspec
import zmq

from services.apiserver.descriptors import exchange
from services.apiserver.link import Link
from services.protocol import fdpass
from services.protocol.errors import DeadlineExceeded, ErrorKind, Unavailable, WharfError, from_failure
from services.protocol.messages import Cancel, Item, Reply, Request, decode_from_engine, encode
from services.protocol.paths import ExecRoot
from services.protocol.verbs import A, R, StreamVerb, Verb

T = TypeVar("T")

#: Seconds that a request waits for an engine that is not there.
WAIT = 90.0
#: Seconds that the engine may take to drop a cancelled request that has descriptors.
DROP = 60.0


class _Call:
    """One request in flight; *frames* are read by one caller."""

    def __init__(self, verb: str, args: bytes, fds: Sequence[int]) -> None:
        self.id = uuid.uuid4().hex
        self.verb = verb
        self.args = args
        self.fds = list(fds)
        self.has_fds = bool(fds)
        #: The engine has them, and the request.
        self.delivered = False
        self.attempt = 0
        self.began = time.time_ns()
        self.absent_since: float | None = time.monotonic()
        self.frames: deque[Item | Reply | WharfError] = deque()
        self.answered = False
        self.cancelled = False
        self._wakeup: asyncio.Future[None] | None = None

    def request(self, ticket: str = "") -> Request:
        return Request(self.id, self.verb, self.args, self.attempt, ticket=ticket, began=self.began)

    def put(self, frame: Item | Reply | WharfError) -> None:
        self.answered = self.answered or not isinstance(frame, Item)
        self.frames.append(frame)
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def next(self) -> Item | Reply:
        while not self.frames:
            await self._woken()
        frame = self.frames.popleft()
        if isinstance(frame, WharfError):
            raise frame
        if isinstance(frame, Reply) and frame.failure is not None:
            raise from_failure(frame.failure)
        return frame

    async def _woken(self) -> None:
        self._wakeup = asyncio.get_running_loop().create_future()
        await self._wakeup

    async def dropped(self) -> None:
        """Until it is answered, whatever the answer, and although the caller is cancelled again."""
        late = Unavailable("the engine did not drop the request")
        timer = asyncio.get_running_loop().call_later(DROP, self.put, late)
        while not self.answered:
            with contextlib.suppress(asyncio.CancelledError):
                await self._woken()
        timer.cancel()

    def close_fds(self) -> None:
        fds, self.fds = self.fds, []
        for fd in fds:
            os.close(fd)


class Engine:
    """The engine as the resources see it."""

    def __init__(
        self, exec_root: ExecRoot, context: zmq.Context[zmq.Socket[bytes]], *, wait: float = WAIT
    ) -> None:
        self._exec_root = exec_root
        self._wait = wait
        self._calls: dict[str, _Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._link = Link(
            context,
            zmq.DEALER,
            exec_root.engine_address,
            received=self._received,
            up=self._up,
            down=self._down,
            # No ROUTING_ID: an earlier socket of the link that connects once more, in the moment in which it
            # is closed, would take over the identity, and the new connection would lead nowhere.
        )

    def open(self) -> None:
        self._link.open()
        self._check_waiting()

    def close(self) -> None:
        self._link.close()
        if self._timer is not None:
            self._timer.cancel()
        for call in self._calls.values():
            call.put(Unavailable("the API server is shutting down"))

    async def call(
        self, verb: Verb[A, R], args: A, *, fds: Sequence[int] = (), timeout: float | None = None
    ) -> R:
        """The answer to *verb*; raises what the engine raised, ``Unavailable``, ``DeadlineExceeded``."""
        return msgspec.msgpack.decode(await self._ask(verb.name, args, fds, timeout), type=verb.reply)

    async def document(self, verb: Verb[A, R], args: A, *, timeout: float | None = None) -> Any:
        """The answer as plain dicts and lists: for answers that are only shown to the client."""
        return msgspec.msgpack.decode(await self._ask(verb.name, args, (), timeout))

    async def stream(
        self, verb: StreamVerb[A, R], args: A, *, fds: Sequence[int] = ()
    ) -> AsyncGenerator[R, None]:
        """The items of *verb*. Close the iterator (``contextlib.aclosing``) to cancel early."""
        decoder = msgspec.msgpack.Decoder(verb.item)
        call = self._begin(verb.name, encode(args), fds)
        try:
            while isinstance(frame := await call.next(), Item):
                yield decoder.decode(frame.body)
        finally:
            await self._end(call)

    async def _ask(self, verb: str, args: msgspec.Struct, fds: Sequence[int], timeout: float | None) -> bytes:
        call = self._begin(verb, encode(args), fds)
        try:
            async with asyncio.timeout(timeout):
                while isinstance(frame := await call.next(), Item):
                    continue
                return frame.body
        except TimeoutError:
            raise DeadlineExceeded(f"the engine did not answer {verb} in {timeout:g} s") from None
        finally:
            await self._end(call)

    def _begin(self, verb: str, args: bytes, fds: Sequence[int]) -> _Call:
        call = _Call(verb, args, fds)
        self._calls[call.id] = call
        if self._link.is_up:
            self._send(call)
        return call

    async def _end(self, call: _Call) -> None:
        call.close_fds()
        call.cancelled = not call.answered
        try:
            if call.cancelled and call.attempt and self._link.is_up:
                self._link.send(encode(Cancel(call.id)))
                if call.delivered:
                    await call.dropped()
        finally:
            del self._calls[call.id]

    def _send(self, call: _Call) -> None:
        call.absent_since = None
        call.attempt += 1
        if not call.has_fds:
            self._link.send(encode(call.request()))
        elif call.fds:
            task = self._loop.create_task(self._send_with_fds(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_with_fds(self, call: _Call) -> None:
        try:
            await exchange(
                self._exec_root.engine_fds, fdpass.FdsEnvelope(call.id), call.fds, fdpass.HandoverAck
            )
        except (WharfError, OSError) as error:
            call.put(Unavailable(f"cannot pass the request's body to the engine: {error}"))
            return
        finally:
            call.close_fds()
        if not call.cancelled and call.id in self._calls and self._link.is_up:
            call.delivered = True
            self._link.send(encode(call.request(ticket=call.id)))

    def _received(self, frames: list[bytes]) -> None:
        frame = decode_from_engine(frames[-1])
        if (call := self._calls.get(frame.id)) is None:
            return
        was_cancelled = (
            isinstance(frame, Reply) and frame.failure and frame.failure.kind is ErrorKind.CANCELLED
        )
        if was_cancelled and not call.cancelled:
            call.absent_since = time.monotonic()  # not asked for: the engine is stopping
        else:
            call.put(frame)

    def _up(self) -> None:
        for call in self._calls.values():
            if not call.answered:
                self._send(call)

    def _down(self) -> None:
        now = time.monotonic()
        for call in self._calls.values():
            if call.has_fds and call.attempt:
                call.put(Unavailable("the engine went away while it was at work on the request"))
            call.absent_since = now

    def _check_waiting(self) -> None:
        """Fail what has waited too long for an engine; once a second."""
        self._timer = self._loop.call_later(min(1.0, self._wait / 4), self._check_waiting)
        limit = time.monotonic() - self._wait
        for call in self._calls.values():
            if not call.answered and call.absent_since is not None and call.absent_since < limit:
                call.put(Unavailable("engine is not available"))
