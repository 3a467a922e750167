"""What a runtime process and the process it prepares say to each other, over a SEQPACKET pair.

::

    parent (shim or command line)            child (becomes the container's process)
       | <---------------- MapIds ------------ |  only with a user namespace of its own
       | -- Proceed -------------------------> |
       | <---------------- Forked(pid) ------- |  user namespace: the process that carries on
       | <---------------- RunHooks ---------- |  only with prestart or createRuntime hooks
       | -- Proceed -------------------------> |
       | <---------------- Console + fd ------ |  only with a terminal
       | <---------------- Ready ------------- |  init: everything is prepared; exec skips this
       |                                       |
       | -- Begin(network) ------------------> |
       | <---------------- (end of file) ----- |  execve closed the socket: the program runs
       | <---------------- Failed ------------ |  at any time, in place of the message due

A side that receives anything but the message due fails. The child ends when its parent goes away
before Begin: an end of file there is an order to exit.
"""

from __future__ import annotations

import array
import socket
from typing import TypeVar

import msgspec

from services.protocol.errors import ErrorKind, Failure, from_failure


class MapIds(msgspec.Struct, tag="map", frozen=True):
    """Write my id maps."""


class Forked(msgspec.Struct, tag="forked", frozen=True):
    """``pid`` (in the parent's pid namespace) carries on for me."""

    pid: int


class RunHooks(msgspec.Struct, tag="hooks", frozen=True):
    """Namespaces are there, the root is not pivoted: run the runtime's hooks."""


class Console(msgspec.Struct, tag="console", frozen=True):
    """The master of the container's terminal is attached."""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """Everything is prepared."""


class Proceed(msgspec.Struct, tag="proceed", frozen=True):
    pass


class Begin(msgspec.Struct, tag="begin", frozen=True):
    """Execute the program, after configuring ``network`` (a serialised NetworkSetup)."""

    network: bytes = b""


class Failed(msgspec.Struct, tag="failed", frozen=True):
    failure: Failure


Message = MapIds | Forked | RunHooks | Console | Ready | Proceed | Begin | Failed
_decoder = msgspec.msgpack.Decoder(Message)
_encoder = msgspec.msgpack.Encoder()
_MAX = 1 << 18
M = TypeVar("M", MapIds, Forked, RunHooks, Console, Ready, Proceed, Begin)


class PeerGone(Exception):
    """The other side closed the socket."""


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, message: Message, fd: int | None = None) -> None:
    data = _encoder.encode(message)
    if fd is None:
        sock.send(data, socket.MSG_NOSIGNAL)
    else:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def receive_any(sock: socket.socket) -> tuple[Message, int | None]:
    """The next message and the descriptor that came along.

    Raises :class:`PeerGone` at the end, and the sender's error for a :class:`Failed`.
    """
    data, ancillary, _flags, _address = sock.recvmsg(
        _MAX, socket.CMSG_SPACE(array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC
    )
    fd: int | None = None
    for level, kind, raw in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fd = array.array("i", raw)[0]
    if not data:
        raise PeerGone
    message = _decoder.decode(data)
    if isinstance(message, Failed):
        raise from_failure(message.failure)
    return message, fd


def receive(sock: socket.socket, due: type[M]) -> M:
    """The message *due*; any other is a protocol error."""
    message, fd = receive_any(sock)
    if not isinstance(message, due) or fd is not None:
        raise from_failure(
            Failure(ErrorKind.SYSTEM, f"runtime sync: expected {due.__name__}, got {type(message).__name__}")
        )
    return message
