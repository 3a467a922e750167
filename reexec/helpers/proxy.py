"""``docker-proxy``: relays connections to published ports that the firewall cannot turn.

Network address translation stays within one address family: what arrives by IPv6 for a container
that has IPv4 only is carried over here. One process serves all ports of a daemon; it is told of
them over the descriptor ``control``, and later by whoever connects to ``listener``
(:mod:`services.protocol.relay`). Bytes are spliced through pipes, never copied into it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable

import msgspec

from reexec.call import Call
from reexec.registry import register
from services.protocol import fdpass
from services.protocol.errors import InvalidParameter, WharfError
from services.protocol.relay import RelayAdd, RelayMessage, RelayReady, RelayRemove

#: Bytes moved at once: a pipe's capacity.
_CHUNK = 64 * 1024
#: Seconds without a datagram after which a UDP client is forgotten (as docker-proxy).
_UDP_IDLE = 90.0
_EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_SPLICE_F_MOVE, _SPLICE_F_NONBLOCK = 1, 2
_decode = msgspec.msgpack.Decoder(RelayMessage).decode


class _Pipe:
    """One direction of a connection; ``done`` once the end has been passed on."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self._source, self._target = source, target
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._held = 0
        self._ended = False
        self.done = False

    def pump(self) -> None:
        """Move what can be moved; raises ``OSError`` when an end is broken."""
        while not self.done:
            moved = self._fill() + self._drain()
            if self._ended and not self._held:
                self.done = True
                with contextlib.suppress(OSError):
                    self._target.shutdown(socket.SHUT_WR)
            if not moved:
                return

    def _fill(self) -> int:
        if self._ended or self._held:
            return 0
        moved = _splice(self._source.fileno(), self._write)
        if moved == 0:
            self._ended = True
        self._held += max(moved or 0, 0)
        return moved or 0

    def _drain(self) -> int:
        if not self._held:
            return 0
        moved = _splice(self._read, self._target.fileno()) or 0
        self._held -= moved
        return moved

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def _splice(source: int, target: int) -> int | None:
    """Bytes moved, 0 at the end, None if it would block."""
    try:
        return os.splice(source, target, _CHUNK, flags=_SPLICE_F_MOVE | _SPLICE_F_NONBLOCK)
    except BlockingIOError:
        return None


class _Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}

    def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def remove(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def step(self, timeout: float) -> None:
        for fd, events in self._epoll.poll(timeout):
            if (handler := self._handlers.get(fd)) is not None:
                handler(events)


class _Connection:
    """A client's connection and the one to the container."""

    def __init__(self, loop: _Loop, client: socket.socket, add: RelayAdd, owner: set[_Connection]) -> None:
        self._loop, self._client, self._owner = loop, client, owner
        client.setblocking(False)
        self._server = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._pipes = (_Pipe(client, self._server), _Pipe(self._server, client))
        self._connected = False
        owner.add(self)
        code = self._server.connect_ex((add.address, add.port))
        if code not in (0, errno.EINPROGRESS):
            self.close()
            return
        loop.add(self._server.fileno(), _EDGE, self._ready)
        loop.add(client.fileno(), _EDGE, self._ready)

    def _ready(self, _: int) -> None:
        try:
            if not self._connected and not self._finish_connect():
                return
            for pipe in self._pipes:
                pipe.pump()
        except OSError:
            self.close()
            return
        if all(pipe.done for pipe in self._pipes):
            self.close()

    def _finish_connect(self) -> bool:
        """False while it goes on; raises what it failed with."""
        code = self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        try:
            self._server.getpeername()
        except OSError:
            return False
        self._connected = True
        return True

    def close(self) -> None:
        if self not in self._owner:
            return
        self._owner.discard(self)
        for sock in (self._client, self._server):
            self._loop.remove(sock.fileno())
            sock.close()
        for pipe in self._pipes:
            pipe.close()


class _TcpPort:
    def __init__(self, loop: _Loop, listener: socket.socket, add: RelayAdd) -> None:
        self._loop, self._listener, self.added = loop, listener, add
        self._connections: set[_Connection] = set()
        listener.setblocking(False)
        loop.add(listener.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, _: int) -> None:
        with contextlib.suppress(OSError):  # the client has gone, or there are no descriptors left
            client, _address = self._listener.accept()
            _Connection(self._loop, client, self.added, self._connections)

    def fileno(self) -> int:
        return self._listener.fileno()

    def tick(self, now: float) -> None:
        """A connection has no idle limit."""

    def close(self) -> None:
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        for connection in list(self._connections):
            connection.close()


class _UdpPort:
    """Each client has a socket of its own towards the container, so that answers find back."""

    def __init__(self, loop: _Loop, front: socket.socket, add: RelayAdd) -> None:
        self._loop, self._front, self.added = loop, front, add
        self._clients: dict[tuple[object, ...], tuple[socket.socket, float]] = {}
        front.setblocking(False)
        loop.add(front.fileno(), select.EPOLLIN, self._from_client)

    def _from_client(self, _: int) -> None:
        with contextlib.suppress(OSError):
            data, client = self._front.recvfrom(65535)
            back, _then = self._clients.get(client) or (self._open(client), 0.0)
            self._clients[client] = (back, time.monotonic())
            back.send(data)

    def _open(self, client: tuple[object, ...]) -> socket.socket:
        back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        back.connect((self.added.address, self.added.port))

        def answer(_: int) -> None:
            with contextlib.suppress(OSError):
                self._front.sendto(back.recv(65535), client)

        self._loop.add(back.fileno(), select.EPOLLIN, answer)
        return back

    def fileno(self) -> int:
        return self._front.fileno()

    def tick(self, now: float) -> None:
        for client, (back, then) in list(self._clients.items()):
            if now - then > _UDP_IDLE:
                self._loop.remove(back.fileno())
                back.close()
                del self._clients[client]

    def close(self) -> None:
        self.tick(float("inf"))
        self._loop.remove(self._front.fileno())
        self._front.close()


def _place(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Proxy:
    """Ports by key, served while there are any or somebody is there to tell of them."""

    def __init__(self, control: socket.socket, listener: socket.socket | None = None, path: str = "") -> None:
        """*path*: where *listener* is bound."""
        self._path = path
        self._place = _place(path)
        self._loop = _Loop()
        self._control: socket.socket | None = control
        self._ports: dict[str, _TcpPort | _UdpPort] = {}
        self._loop.add(control.fileno(), select.EPOLLIN, self._told)
        if listener is not None:
            listener.setblocking(False)
            self._loop.add(listener.fileno(), select.EPOLLIN, lambda _: self._meet(listener))

    def serve(self) -> None:
        while self._control is not None or self._ports:
            self._loop.step(_UDP_IDLE / 3)
            now = time.monotonic()
            for port in self._ports.values():
                port.tick(now)
            if self._control is None and _place(self._path) != self._place:
                return  # another one has been started in its place, or the daemon's directory is gone

    def _meet(self, listener: socket.socket) -> None:
        """The next engine: it is told of the ports there are, and tells of them from now on."""
        try:
            control, _ = listener.accept()
        except OSError:
            return
        self._part()
        self._control = control
        try:
            for port in self._ports.values():
                fdpass.send(control, port.added, [port.fileno()])
            fdpass.send(control, RelayReady())
        except OSError:
            self._part()
            return
        self._loop.add(control.fileno(), select.EPOLLIN, self._told)

    def _part(self) -> None:
        if self._control is not None:
            self._loop.remove(self._control.fileno())
            self._control.close()
            self._control = None

    def _told(self, _: int) -> None:
        assert self._control is not None
        try:
            data, fds = fdpass.receive_raw(self._control)
        except (OSError, WharfError):
            data, fds = b"", []
        if not data:
            self._part()
            return
        message = _decode(data)
        if (old := self._ports.pop(message.key, None)) is not None:
            old.close()
        if isinstance(message, RelayRemove):
            for fd in fds:
                os.close(fd)
            return
        sock = socket.socket(fileno=fds[0])
        kind = _TcpPort if message.protocol == "tcp" else _UdpPort
        self._ports[message.key] = kind(self._loop, sock, message)


@register("docker-proxy")
def main(call: Call) -> None:
    if "control" not in call.fds:
        raise InvalidParameter("docker-proxy is told of its ports over the descriptor 'control'")
    listener = socket.socket(fileno=call.fds["listener"]) if "listener" in call.fds else None
    Proxy(socket.socket(fileno=call.fds["control"]), listener, "".join(call.argv[1:])).serve()
