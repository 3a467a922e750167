"""A SEQPACKET socket in the asyncio loop: packets out in order, packets in to a callback."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from services.protocol import fdpass
from services.protocol.errors import WharfError


class Packets:
    """``on_lost`` is called once, when the other side is gone; not after :meth:`close`."""

    def __init__(
        self, sock: socket.socket, on_packet: Callable[[bytes], None], on_lost: Callable[[], None]
    ) -> None:
        self._socket = sock
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._queue: deque[tuple[msgspec.Struct, list[int]]] = deque()
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: msgspec.Struct, fds: Sequence[int] = ()) -> None:
        """Now, or when the other side has taken what was sent before; *fds* stay the caller's."""
        if self._socket.fileno() < 0:
            return
        self._queue.append((message, [os.dup(fd) for fd in fds]))
        if len(self._queue) == 1:
            self._flush()

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        while self._queue:
            self._drop()

    def _drop(self) -> None:
        for fd in self._queue.popleft()[1]:
            os.close(fd)

    def _flush(self) -> None:
        try:
            while self._queue:
                message, fds = self._queue[0]
                fdpass.send(self._socket, message, fds)
                self._drop()
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._flush)
            return
        except OSError:
            return  # reading tells that the other side is gone
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data, fds = fdpass.receive_raw(self._socket)
        except BlockingIOError:
            return
        except (OSError, WharfError):
            data, fds = b"", []
        for fd in fds:
            os.close(fd)
        if data:
            self._on_packet(data)
        else:
            self.close()
            self._on_lost()
