"""The engine's ZeroMQ side: ROUTER for requests, PUB for events; verb -> handler.

Life of a request: decoded here, run as a task, answered with exactly one ``Reply``; a ``Cancel``
or the loss of the engine cancels the task, and a stream ends when its next item has nobody to go to
(an API server that is killed sends no ``Cancel``). A request that comes again under an id that is still
running joins it (the API server repeats after a reconnect, by another connection: the answer goes to the
last one).

Who subscribes to the events gets a greeting once its subscription holds: what was published before is in
the history, what comes after is sent to it.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zmq
import zmq.asyncio

from services.engine.scopes import Background
from services.protocol.errors import Cancelled, ErrorKind, Failure, WharfError
from services.protocol.messages import (
    EVENT_TOPIC,
    GREETING,
    Cancel,
    Item,
    Published,
    Reply,
    Request,
    decode_to_engine,
    encode,
)
from services.protocol.paths import ExecRoot
from services.protocol.verbs import A, R, StreamVerb, Verb

log = logging.getLogger(__name__)

#: Maps by their keys, as Go writes them: clients print answers as they come.
encode_answer = msgspec.msgpack.Encoder(order="deterministic").encode

T = TypeVar("T")


class Context:
    """What a handler may know of its request."""

    def __init__(
        self, request_id: str, attempt: int, fds: Callable[[], Awaitable[list[int]]], began: int = 0
    ) -> None:
        self.request_id = request_id
        self.attempt = attempt
        #: Unix nanoseconds of its first attempt; 0: not known.
        self.began = began
        #: Awaits the descriptors sent under the request's ticket; the caller owns and closes them.
        self.fds = fds

    @property
    def repeated(self) -> bool:
        """The engine went away over it once: what it asks for may have been done."""
        return self.attempt > 1


Handler = Callable[[A, Context], Awaitable[R]]
StreamHandler = Callable[[A, Context], AsyncGenerator[R, None]]
_Run = Callable[[Request, Context, Callable[[bytes], Awaitable[None]]], Awaitable[bytes]]


class Router:
    """Registered verbs and the sockets they are served on."""

    def __init__(self, exec_root: ExecRoot, fds: Callable[[str], Awaitable[list[int]]]) -> None:
        self._exec_root = exec_root
        self._take_fds = fds
        self._verbs: dict[str, _Run] = {}
        #: Names of the tasks of streams.
        self._streams: set[str] = set()
        #: By the request's id.
        self._running: dict[str, asyncio.Task[None]] = {}
        #: Routing ids of the connections by which the requests came.
        self._askers: dict[str, bytes] = {}
        self._tasks = Background("rpc")
        self._context = zmq.asyncio.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.SNDHWM, 0)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._pub: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        self._pub.setsockopt(zmq.SNDHWM, 100_000)
        self._pub.setsockopt(zmq.XPUB_VERBOSE, 1)  # each API server's subscription, not only the first
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, verb: Verb[A, R], handler: Callable[[A, Context], Awaitable[R]]) -> None:
        decode = msgspec.msgpack.Decoder(verb.args).decode

        async def run(request: Request, context: Context, _: Callable[[bytes], Awaitable[None]]) -> bytes:
            return encode_answer(await handler(decode(request.args), context))

        self._register(verb.name, run)

    def add_stream(
        self, verb: StreamVerb[A, R], handler: Callable[[A, Context], AsyncGenerator[R, None]]
    ) -> None:
        decode = msgspec.msgpack.Decoder(verb.args).decode

        async def run(request: Request, context: Context, send: Callable[[bytes], Awaitable[None]]) -> bytes:
            # Whoever cannot be sent to is not answered before the work has been cleared up.
            async with aclosing(handler(decode(request.args), context)) as items:
                async for item in items:
                    await send(encode_answer(item))
            return b""

        self._streams.add(f"rpc:{verb.name}")
        self._register(verb.name, run)

    def _register(self, name: str, run: _Run) -> None:
        if name in self._verbs:
            raise ValueError(f"verb {name} is registered twice")
        self._verbs[name] = run

    def publish(self, published: Published) -> None:
        self._pub.send_multipart([EVENT_TOPIC, encode_answer(published)], zmq.DONTWAIT)
        if self._loop is not None:  # the descriptor is edge-triggered (zmq_getsockopt(3), ZMQ_FD)
            self._loop.call_soon(self._greet)

    def _greet(self) -> None:
        """Read the subscriptions there are, and greet who has just subscribed."""
        while not self._pub.closed:
            try:
                subscribed = self._pub.recv(zmq.DONTWAIT)[:1] == b"\x01"
            except zmq.Again:
                return
            if subscribed:
                self._pub.send_multipart([EVENT_TOPIC, GREETING], zmq.DONTWAIT)

    def bind(self) -> None:
        """From here on requests are taken: the last step of the boot."""
        self._pub.bind(self._exec_root.events_address)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(int(self._pub.getsockopt(zmq.FD)), self._greet)
        self._loop.call_soon(self._greet)
        self._router.bind(self._exec_root.engine_address)

    async def serve(self) -> None:
        """Receive until cancelled."""
        while True:
            identity, data = await self._router.recv_multipart()
            try:
                message = decode_to_engine(data)
            except msgspec.MsgspecError as error:
                log.error("message from the API server was not understood: %s", error)
                continue
            if isinstance(message, Cancel):
                if (task := self._running.get(message.id)) is not None:
                    # After its first step: what has not begun would end without an answer.
                    asyncio.get_running_loop().call_soon(task.cancel)
                continue
            self._askers[message.id] = identity
            if message.id not in self._running:
                task = self._tasks.spawn(self._answer(message), name=message.verb)
                self._running[message.id] = task
                task.add_done_callback(functools.partial(self._forget, message.id))

    def _forget(self, request_id: str, _: object) -> None:
        del self._running[request_id], self._askers[request_id]

    async def drain(self, timeout: float) -> None:
        """Let what is being done come to its end, at most *timeout* seconds; then cancel the rest.

        Streams (waits, progress) have no end to wait for. What is cancelled is answered so, and the
        API server asks the next engine.
        """
        tasks = [task for task in self._running.values() if task.get_name() not in self._streams]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        await self._tasks.close()

    async def close(self) -> None:
        await self._tasks.close()
        if self._loop is not None:
            self._loop.remove_reader(int(self._pub.getsockopt(zmq.FD)))
        self._router.close(linger=200)
        self._pub.close(linger=200)
        self._context.term()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        for address in (self._exec_root.engine_address, self._exec_root.events_address):
            Path(address.removeprefix("ipc://")).unlink(missing_ok=True)

    async def _answer(self, request: Request) -> None:
        reply = await self._reply(request)
        await self._send(request, encode(reply))

    async def _send(self, request: Request, data: bytes) -> bool:
        """False when the API server that asked is gone."""
        try:
            await self._router.send_multipart([self._askers[request.id], data])
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            return False
        return True

    async def _reply(self, request: Request) -> Reply:
        run = self._verbs.get(request.verb)
        if run is None:
            failure = Failure(ErrorKind.NOT_IMPLEMENTED, f"{request.verb} is not implemented")
            return Reply(request.id, failure=failure)

        async def send(body: bytes) -> None:
            if not await self._send(request, encode(Item(request.id, body))):
                raise asyncio.CancelledError

        context = Context(request.id, request.attempt, lambda: self._take_fds(request.ticket), request.began)
        try:
            return Reply(request.id, await run(request, context, send))
        except WharfError as error:
            return Reply(request.id, failure=error.to_failure())
        except asyncio.CancelledError:
            return Reply(request.id, failure=Cancelled("the request was cancelled").to_failure())
        except Exception as error:
            log.exception("%s failed", request.verb)
            return Reply(request.id, failure=Failure(ErrorKind.SYSTEM, str(error) or type(error).__name__))


__all__ = ["Any", "Context", "Handler", "Router", "StreamHandler"]
