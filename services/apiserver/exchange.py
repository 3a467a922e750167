"""One request and its answer, beneath falcon: streaming, presence of the client, hand-over.

A resource that answers with one document leaves the answer to falcon. One that streams calls
``start``, ``write`` and ``finish``; one that gives the connection away calls ``hand_over``. In both
cases what falcon sends afterwards is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from services.apiserver import headers
from services.apiserver.descriptors import exchange
from services.protocol.errors import SystemError_, Unreachable, WharfError, from_failure
from services.protocol.fdpass import Handover, HandoverAck, HandoverEnvelope

if TYPE_CHECKING:
    from services.apiserver.connection import Connection

EXTENSION = "wharfd.exchange"
#: Of a websocket's scope: answers the handshake with (status, content type, body).
REFUSE = "wharfd.refuse"
#: Bytes a client may have sent behind a request whose connection is handed over: they travel in
#: one datagram with it.
MAX_PENDING = 96 * 1024


class ClientGone(Exception):
    """The client went away; there is nobody to answer."""


class BodyCutOff(ClientGone):
    """The client closed its side in the middle of the body."""


class Exchange:
    """Belongs to the task of its request; only ``client_gone`` is called from outside."""

    def __init__(self, connection: Connection, scope: Any, receive: Any, send: Any) -> None:
        self._connection = connection
        self._scope = scope
        self._receive = receive
        self._send = send
        self._bound: asyncio.Task[Any] | None = None
        #: The first ASGI event, which falcon fetches before anything else.
        self.first: Any = None
        self.is_gone = False
        #: The client closed its side in the middle of the body; it may still read.
        self.cut_off = False
        self.taken = False
        self.finished = False

    @property
    def version_1_0(self) -> bool:
        return bool(self._scope["http_version"] == "1.0")

    async def receive(self) -> Any:
        event = await self._receive()
        if self.first is None:
            self.first = event
        return event

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI ``send`` as falcon sees it."""
        if self.taken:
            return
        if message["type"] == "http.response.start":
            message["headers"] = headers.complete(message["headers"])
        await self._send(message)

    async def start(self, status: int, fields: Mapping[str, str]) -> None:
        """Send the head; the body follows in chunks, each at once on its way."""
        self.taken = True
        raw = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        message = {"type": "http.response.start", "status": status, "headers": headers.complete(raw)}
        await self._send(message)

    async def write(self, data: bytes) -> None:
        """Waits while the client's socket is full."""
        if self.is_gone and self._connection.transport.is_closing():
            raise ClientGone
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        self.finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def settle(self) -> None:
        """After the request: an answer that was begun and not finished must not look whole."""
        if self.taken and not self.finished:
            self._connection.drop()

    def client_gone(self) -> None:
        self.is_gone = True
        if self._bound is not None:
            self._bound.cancel()

    @contextlib.contextmanager
    def bound_to_client(self) -> Iterator[None]:
        """The block is cancelled, as :class:`ClientGone`, when the client goes away."""
        task = asyncio.current_task()
        assert task is not None and self._bound is None
        if self.is_gone:
            raise ClientGone
        self._bound = task
        try:
            yield
        except asyncio.CancelledError:
            if self.is_gone and task.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            self._bound = None

    async def raw(self, data: bytes) -> None:
        """Answer with *data*, head included, and close the connection."""
        await self._connection.quiesce()
        self.taken = self.finished = True
        self._connection.last_words(data)

    async def hand_over(self, to: Handover, head: bytes, *, chunked: bool = False) -> None:
        """Give the connection to the owner of the bytes, who writes *head* first.

        On success this process has nothing to do with it any more. On failure the connection is as
        it was, and an error can be answered.
        """
        connection = self._connection
        pending = await connection.quiesce()
        try:
            if len(pending) > MAX_PENDING:
                raise SystemError_("too much data behind a request for a stream")
            envelope = HandoverEnvelope(to.payload, head, pending, chunked)
            connection.set_blocking(True)
            ack = await exchange(to.socket, envelope, [connection.fileno], HandoverAck)
            if ack.failure is not None:
                raise from_failure(ack.failure)
        except BaseException as error:
            connection.set_blocking(False)
            connection.resume()
            if isinstance(error, WharfError):
                raise
            if isinstance(error, ConnectionError):  # closed with the message unread (unix(7))
                raise Unreachable(f"cannot hand the connection over: {error}") from error
            if isinstance(error, (OSError, TimeoutError)):
                raise SystemError_(f"cannot hand the connection over: {error}") from error
            raise
        self.taken = self.finished = True
        connection.forget()
