"""uvicorn's HTTP/1.1 protocol with what Docker's API needs beyond ASGI.

* errors of the HTTP grammar are answered as Go's ``net/http`` answers them;
* a client that half-closes its side still gets its answer;
* each request carries an :class:`~services.apiserver.exchange.Exchange`, through which a resource
  streams, notices that the client is gone, or gives the connection away.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.apiserver.exchange import EXTENSION, ClientGone, Exchange

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveCallable, ASGISendCallable

#: Bytes of request line and headers; Go's ``http.DefaultMaxHeaderBytes`` and its slack.
MAX_HEADER = (1 << 20) + 4096
#: Bytes read from a connection at once: bounds what a client can have sent behind its request.
READ_SIZE = 32 * 1024

#: Seconds a refused client has to read why (Go's ``rstAvoidanceDelay``), counted from its last word.
_LINGER = 0.5

_TEXT_OF = {"Missing mandatory Host: header": "missing required Host header"}


class Connection(H11Protocol):
    """One client connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False
        self._falcon = self.app
        self.app = self._handle
        self.exchange: Exchange | None = None
        self._refused = False
        self._heard = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.max_size = READ_SIZE  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._refused:  # the rest is read and dropped: unread, it would reset
            self._heard = True
        else:
            super().data_received(data)

    async def _handle(self, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        exchange = self.exchange = Exchange(self, scope, receive, send)
        scope["extensions"] = {EXTENSION: exchange}
        try:
            await self._falcon(scope, exchange.receive, exchange.send)
        except ClientGone:
            self.drop()
        except asyncio.CancelledError:
            self.drop()  # the client has gone, or the server is stopping and has waited long enough
            return
        exchange.settle()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Go cancels the request's context here, and lets the handler write its answer."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        if self.conn.their_state is h11.SEND_BODY:
            if self.exchange is None:
                return False
            self.exchange.cut_off = True
            self.cycle.message_event.set()
            return True
        if self.exchange is not None:
            self.exchange.client_gone()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.exchange is not None:
            self.exchange.client_gone()

    def _unsupported_upgrade_warning(self) -> None:
        """``Upgrade: tcp`` is how Docker's clients ask for a raw stream: nothing to warn of."""

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        from services.apiserver.websocket import WebSocket  # few clients ask for it

        self.ws_protocol_class = WebSocket
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        error = sys.exc_info()[1]
        if self.conn.our_state is not h11.SEND_RESPONSE and self.conn.our_state is not h11.IDLE:
            self.transport.close()  # in the middle of an answer: there is no place for another
            return
        hint = getattr(error, "error_status_hint", 400)
        if hint == 431:
            line = "431 Request Header Fields Too Large"
        elif hint == 501:
            self._refuse("501 Not Implemented", "Unsupported transfer encoding")
            return
        elif text := _TEXT_OF.get(str(error)):
            self._refuse("400 Bad Request", f"400 Bad Request: {text}")
            return
        else:
            line = "400 Bad Request"
        self._refuse(line, line)

    def _refuse(self, status: str, body: str) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # the body broke off under a request that is being served
            self.cycle.message_event.set()
        self.transport.write((head + body).encode())
        self.transport.write_eof()
        self.loop.call_later(_LINGER, self._close_when_quiet)

    def _close_when_quiet(self) -> None:
        """Time alone does not tell that all was read: this process may have stood still."""
        if self._heard:
            self._heard = False
            self.loop.call_later(_LINGER, self._close_when_quiet)
        else:
            self.transport.close()

    def drop(self) -> None:
        """End the connection although an answer is not complete."""
        self.cycle.disconnected = True
        self.transport.abort()

    async def quiesce(self) -> bytes:
        """Stop reading, write out what is buffered; the bytes the client sent behind its request.

        Afterwards only the kernel's socket holds unread or unsent bytes.
        """
        self.flow.pause_reading()
        self.transport.set_write_buffer_limits(0)
        await self.flow.drain()
        return self.conn.trailing_data[0]

    @property
    def fileno(self) -> int:
        return int(self.transport.get_extra_info("socket").fileno())

    def set_blocking(self, blocking: bool) -> None:
        """The flag belongs to the open file description: whoever is handed the connection sees it."""
        os.set_blocking(self.fileno, blocking)

    def resume(self) -> None:
        self.flow.resume_reading()

    def last_words(self, data: bytes) -> None:
        self.cycle.response_started = self.cycle.response_complete = True
        self.transport.write(data)
        self.transport.close()

    def forget(self) -> None:
        """Close this process's descriptor without shutting the connection down: it lives elsewhere."""
        self.cycle.response_started = self.cycle.response_complete = True
        self.transport.abort()
