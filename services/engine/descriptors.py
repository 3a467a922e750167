"""Descriptors that come before their request: the ``engine-fds.sock`` side of hand-over.

The API server sends ``FdsEnvelope(ticket)`` with the descriptors, waits for the answer, then sends
the ZeroMQ request that names the ticket. Descriptors that nobody fetches are closed after
``KEEP`` seconds, so a dead API server leaks nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from services.protocol import fdpass
from services.protocol.errors import InvalidParameter, WharfError
from services.protocol.paths import ExecRoot

log = logging.getLogger(__name__)

#: Seconds that unfetched descriptors are kept.
KEEP = 60.0


class Descriptors:
    """Kept in the event loop: sockets are non-blocking, nothing here waits."""

    def __init__(self, exec_root: ExecRoot) -> None:
        self._path = exec_root.engine_fds
        self._kept: dict[str, tuple[list[int], asyncio.TimerHandle]] = {}
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()

    def listen(self) -> None:
        listener = fdpass.listen(self._path)
        listener.setblocking(False)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    async def take(self, ticket: str) -> list[int]:
        """The descriptors sent under *ticket*; the caller closes them."""
        kept = self._kept.pop(ticket, None)
        if kept is None:
            raise InvalidParameter("the request came without its descriptors")
        fds, timer = kept
        timer.cancel()
        return fds

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        if self._listener is not None:
            loop.remove_reader(self._listener)
            self._listener.close()
            self._path.unlink(missing_ok=True)
        for connection in list(self._connections):
            self._drop(connection)
        for ticket in list(self._kept):
            self._expire(ticket)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        connection.setblocking(False)
        self._connections.add(connection)
        asyncio.get_running_loop().add_reader(connection, self._read, connection)

    def _read(self, connection: socket.socket) -> None:
        try:
            envelope, fds = fdpass.receive(connection, fdpass.FdsEnvelope)
            self._keep(envelope.ticket, fds)
            fdpass.send(connection, fdpass.HandoverAck())
        except BlockingIOError:
            return
        except (WharfError, OSError, ValueError):
            self._drop(connection)

    def _keep(self, ticket: str, fds: list[int]) -> None:
        if ticket in self._kept:
            self._expire(ticket)
        timer = asyncio.get_running_loop().call_later(KEEP, self._expire, ticket)
        self._kept[ticket] = (fds, timer)

    def _expire(self, ticket: str) -> None:
        fds, timer = self._kept.pop(ticket)
        timer.cancel()
        for fd in fds:
            os.close(fd)

    def _drop(self, connection: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(connection)
        self._connections.discard(connection)
        connection.close()
