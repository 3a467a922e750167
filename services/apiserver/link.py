"""A ZeroMQ socket inside the event loop that knows whether the other side is there.

libzmq keeps undelivered messages over a reconnect and says nothing about it. Requests must not be
delivered twice, so a lost connection ends the socket here: a fresh one is opened, what was queued
in the old one is gone, and the owner decides what to send again.

The file descriptor of a ZeroMQ socket is edge-triggered: every read and every write is followed by
reading until nothing is left (zmq_getsockopt(3), ZMQ_FD).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import zmq

#: Milliseconds between attempts to connect.
RECONNECT_FIRST, RECONNECT_MAX = 20, 200

#: First frame of a monitor's message: event and value (zmq_socket_monitor(3)).
_EVENT = struct.Struct("=Hi")
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


def _fd(socket: zmq.Socket[bytes]) -> int:
    return int(socket.getsockopt(zmq.FD))


class Link:
    """*received* gets every message (one frame or more); *up* and *down* the state of the connection.

    The callbacks run in the event loop and must not block. After ``open`` the link connects, and
    connects again, by itself until ``close``.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        kind: int,
        address: str,
        *,
        received: Callable[[list[bytes]], None],
        up: Callable[[], None],
        down: Callable[[], None],
        options: dict[int, bytes | int] | None = None,
    ) -> None:
        self._context = context
        self._kind = kind
        self._address = address
        self._received = received
        self._on_up = up
        self._on_down = down
        self._options = options or {}
        self._loop = asyncio.get_running_loop()
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self.is_up = False

    def open(self) -> None:
        socket: zmq.Socket[bytes] = self._context.socket(self._kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_FIRST)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX)
        for option, value in self._options.items():
            socket.setsockopt(option, value)
        self._monitor = socket.get_monitor_socket(_WATCHED)
        self._socket = socket
        self._loop.add_reader(_fd(self._monitor), self._read_monitor)
        self._loop.add_reader(_fd(socket), self._read)
        socket.connect(self._address)
        self._loop.call_soon(self._read_monitor)

    def send(self, data: bytes) -> None:
        """Queue *data*; only while the link is up."""
        assert self._socket is not None and self.is_up
        self._socket.send(data, zmq.DONTWAIT)
        self._loop.call_soon(self._read)

    def close(self) -> None:
        socket, monitor = self._socket, self._monitor
        self._socket = self._monitor = None
        self.is_up = False
        if socket is None or monitor is None:
            return
        self._loop.remove_reader(_fd(monitor))
        self._loop.remove_reader(_fd(socket))
        socket.disable_monitor()
        monitor.close(0)
        socket.close(0)

    def _read(self) -> None:
        while (socket := self._socket) is not None:
            try:
                frames = socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._received(frames)

    def _read_monitor(self) -> None:
        while (monitor := self._monitor) is not None:
            try:
                event, _ = monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if _EVENT.unpack(event)[0] == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.is_up = True
                self._on_up()
            else:
                self._lost()
                return

    def _lost(self) -> None:
        self._read()  # what arrived before the end counts
        was_up = self.is_up
        self.close()
        if was_up:
            self._on_down()
        self.open()
