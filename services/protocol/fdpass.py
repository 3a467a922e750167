"""Descriptors over unix sockets: one SEQPACKET datagram is one msgpack message plus descriptors.

Hand-over of a client's connection (rule 1: bytes travel on passed descriptors)::

    apiserver                         owner of the bytes (shim, zygote helper)
       | -- HandoverEnvelope + fd ------> |   takes the connection; has not written to it yet
       | <------------- HandoverAck ----- |   on success the owner has written `head`
       |                                  |   on failure nothing was written, the fd is closed

The engine decides *where* the connection goes (:class:`Handover`); the API server carries it out.
A message of more than 128 KiB (a program with many arguments) does not go into a datagram: it travels in
a memfd, the last of the descriptors, and the datagram is one byte that no message begins with.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import msgspec

from services.protocol.errors import Failure, Unavailable, Unreachable

T = TypeVar("T")

MAX_FDS = 16
#: Bytes of the largest message in a datagram, and of the largest there is.
MAX_MESSAGE = 128 * 1024
MAX_LONG = 64 << 20
#: The one byte that msgpack does not use.
_LONG = b"\xc1"
_SUN_PATH_MAX = 107


class Handover(msgspec.Struct, frozen=True):
    """Where a connection is to be sent: a SEQPACKET socket and what to say there."""

    socket: str
    payload: bytes


class HandoverEnvelope(msgspec.Struct, tag="handover", frozen=True):
    """Travels with the descriptor of the connection.

    ``payload`` is the engine's, passed on unread. ``head`` is written to the connection before
    anything else. ``pending`` are bytes the client sent behind its request. With ``chunked`` the
    output is framed as HTTP/1.1 chunks, ended by the zero chunk.
    """

    payload: bytes
    head: bytes = b""
    pending: bytes = b""
    chunked: bool = False


class HandoverAck(msgspec.Struct, frozen=True):
    failure: Failure | None = None


class FdsEnvelope(msgspec.Struct, frozen=True):
    """Descriptors that belong to the ZeroMQ request ``ticket`` (sent to the engine beforehand)."""

    ticket: str


def _address(path: str | Path, stack: ExitStack) -> str:
    text = str(path)
    if len(os.fsencode(text)) <= _SUN_PATH_MAX:
        return text
    parent, name = os.path.split(text)
    fd = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return f"/proc/self/fd/{fd}/{name}"


def connect(path: str | Path, *, blocking: bool = True) -> socket.socket:
    """A SEQPACKET connection to *path*; raises :class:`Unreachable`.

    With *blocking* False the socket is non-blocking, and ``BlockingIOError`` is raised while the
    listener's backlog is full (unix(7)): nothing has begun, try again.
    """
    with ExitStack() as stack:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        undo = stack.enter_context(ExitStack())
        undo.callback(sock.close)
        sock.setblocking(blocking)
        try:
            sock.connect(_address(path, stack))
        except BlockingIOError:
            raise
        except OSError as error:
            raise Unreachable(f"cannot connect to {path}: {error.strerror}") from error
        undo.pop_all()
        return sock


def listen(path: str | Path, *, mode: int = 0o600, backlog: int = 128) -> socket.socket:
    """A listening SEQPACKET socket at *path*, replacing what a dead process left there."""
    with ExitStack() as stack:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        undo = stack.enter_context(ExitStack())
        undo.callback(sock.close)
        address = _address(path, stack)
        try:
            os.unlink(address)
        except FileNotFoundError:
            pass
        sock.bind(address)
        os.chmod(address, mode)
        sock.listen(backlog)
        undo.pop_all()
        return sock


def send(sock: socket.socket, message: msgspec.Struct, fds: Sequence[int] = ()) -> None:
    """Send *message* with *fds*; the caller still owns (and closes) the descriptors."""
    data = msgspec.msgpack.encode(message)
    if len(data) > MAX_MESSAGE:
        with open(os.memfd_create("message", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            file.write(data)
            _send(sock, _LONG, [*fds, file.fileno()])
    else:
        _send(sock, data, fds)


def _send(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary)


def receive_raw(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One datagram and its descriptors (close-on-exec, owned by the caller); ``b""`` is EOF."""
    data, ancillary, flags, _ = sock.recvmsg(
        MAX_MESSAGE, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        raise Unavailable("message on a unix socket was cut off")
    if data == _LONG and fds:
        data = _read_long(fds.pop(), fds)
    return data, list(fds)


def _read_long(fd: int, others: Sequence[int]) -> bytes:
    """What the memfd *fd*, which is closed, has from its beginning (the sender's offset is its end)."""
    with open(fd, "rb", buffering=0):
        size = os.fstat(fd).st_size
        data = os.pread(fd, size, 0) if 0 < size <= MAX_LONG else b""
    if len(data) != size or not data:
        for other in others:
            os.close(other)
        raise Unavailable("a long message on a unix socket could not be read")
    return data


def receive(sock: socket.socket, kind: type[T]) -> tuple[T, list[int]]:
    """One message of type *kind*; raises :class:`Unavailable` at end of file."""
    data, fds = receive_raw(sock)
    if not data:
        raise Unavailable("the other side closed the connection")
    try:
        return msgspec.msgpack.decode(data, type=kind), fds
    except msgspec.MsgspecError:
        for fd in fds:
            os.close(fd)
        raise
