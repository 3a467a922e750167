"""Passing questions on to the servers outside, by a socket in the container's namespace.

So the container's own routes decide what can be reached. A server on the host's loopback is asked
from the host's namespace instead.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence

from services.engine.networks.dns import message

#: Seconds one server is waited for.
_PATIENCE = 4.0
#: Questions of one sandbox that may wait at the same time; more are refused (as in libnetwork).
_MAX_WAITING = 1024
_MAX_DATAGRAM = 65535


def is_loopback(server: str) -> bool:
    return ipaddress.ip_address(server.partition("%")[0]).is_loopback


class Forwarder:
    """Owns *sock*, a non-blocking UDP socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[tuple[int, str], asyncio.Future[bytes]] = {}
        self._loop.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        for future in self._waiting.values():
            future.cancel()

    async def ask(self, data: bytes, server: str) -> bytes | None:
        """The answer of *server*, under the question's id; None if it cannot say."""
        if len(self._waiting) >= _MAX_WAITING:
            return None
        # An id of our own: two clients may use the same one, and nobody can guess it.
        key = (secrets.randbelow(65536), server)
        while key in self._waiting:
            key = (secrets.randbelow(65536), server)
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[key] = future
        try:
            self._socket.sendto(message.with_id(data, key[0]), (server, 53))
            reply = await asyncio.wait_for(future, _PATIENCE)
        except (OSError, TimeoutError):
            return None
        finally:
            del self._waiting[key]
        return None if message.is_failure(reply) else message.with_id(reply, message.id_of(data))

    def _readable(self) -> None:
        for _ in range(32):
            try:
                data, address = self._socket.recvfrom(_MAX_DATAGRAM)
            except OSError:  # nothing more, or the kernel tells of an unreachable server
                return
            future = self._waiting.get((message.id_of(data), address[0]))
            if future is not None and not future.done():
                future.set_result(data)


async def ask_by_tcp(
    data: bytes, servers: Sequence[str], connect: Callable[[], Awaitable[socket.socket]]
) -> bytes | None:
    """As :meth:`Forwarder.ask`, one server after the other; *connect* makes a socket to use."""
    for server in servers:
        sock = await connect()
        try:
            async with asyncio.timeout(_PATIENCE):
                reply = await _exchange(sock, data, server)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            sock.close()
            continue
        if not message.is_failure(reply):
            return reply
    return None


async def _exchange(sock: socket.socket, data: bytes, server: str) -> bytes:
    await asyncio.get_running_loop().sock_connect(sock, (server, 53))
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        writer.write(struct.pack(">H", len(data)) + data)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()
