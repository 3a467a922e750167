"""A helper in a forked child of the zygote: from the request to its answer."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Callable

import msgspec
import setproctitle

from reexec.call import Call
from reexec.run import run
from reexec.stream import ClientTarget
from services.containerd_shim.runtime import syscall
from services.protocol import fdpass
from services.protocol.errors import ErrorKind, Failure
from services.protocol.fdpass import HandoverAck, HandoverEnvelope
from services.protocol.helpers import HelperExit, HelperRequest

_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


def serve(connection: socket.socket, request: HelperRequest, fds: list[int]) -> int:
    """Run *request* for the peer of *connection* and answer it; returns the exit status."""
    connection.setblocking(True)
    if request.lasting:
        os.setsid()
    else:
        _die_with(connection)
    ended = _run(request, fds, None)
    try:
        fdpass.send(connection, ended)
    except OSError:
        return 1
    return ended.status


def serve_client(connection: socket.socket, envelope: HandoverEnvelope, fds: list[int]) -> int:
    """Run the request in *envelope* with a client's connection for output.

    The API server hears of a failure only as long as nothing has been written; afterwards the
    output ends without its end.
    """
    connection.setblocking(True)
    _die_with(connection)
    if not fds:
        return _refuse(connection, Failure(ErrorKind.INVALID_PARAMETER, "no connection was handed over"))
    request = msgspec.msgpack.decode(envelope.payload, type=HelperRequest)
    os.set_blocking(fds[0], True)

    def opened() -> None:
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # from here on the client's connection counts
        fdpass.send(connection, HandoverAck())

    target = ClientTarget(fds[0], envelope.head, envelope.pending, envelope.chunked, opened)
    names = ["client", *(name for name in request.fds if name != "client")]
    ended = _run(msgspec.structs.replace(request, fds=names), fds, target)
    if not target.is_open:
        failure = ended.failure or Failure(ErrorKind.SYSTEM, f"{request.argv[0]} wrote nothing")
        return _refuse(connection, failure)
    client = socket.socket(fileno=fds[0])
    try:
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    return ended.status


def _refuse(connection: socket.socket, failure: Failure) -> int:
    try:
        fdpass.send(connection, HandoverAck(failure))
    except OSError:
        pass
    return 1


def _run(request: HelperRequest, fds: list[int], target: ClientTarget | None) -> HelperExit:
    if not request.argv:
        return HelperExit(1, failure=Failure(ErrorKind.INVALID_PARAMETER, "no helper was named"))
    if len(request.fds) != len(fds):
        text = f"{request.argv[0]}: {len(request.fds)} descriptors were named, {len(fds)} came"
        return HelperExit(1, failure=Failure(ErrorKind.INVALID_PARAMETER, text))
    setproctitle.setproctitle(f"wharfd: {request.argv[0]}")
    os.environ.update(request.env)
    named = dict(zip(request.fds, fds, strict=True))
    for name, number in _STANDARD.items():
        if name in named:
            os.dup2(named[name], number)
            named[name] = number
    if request.private_mounts:
        syscall.unshare(syscall.CLONE_NEWNS)
        syscall.mount("none", "/", None, syscall.MS_REC | syscall.MS_PRIVATE)
    return run(Call(list(request.argv), named, target))


def _die_with(connection: socket.socket) -> None:
    """End this process when the peer closes *connection* (SIGIO is sent for that, see fcntl(2))."""
    signal.signal(signal.SIGIO, _check_peer(connection))
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    if _peer_has_gone(connection):
        os._exit(1)


def _check_peer(connection: socket.socket) -> Callable[[int, object], None]:
    def check(_signal: int, _frame: object) -> None:
        if _peer_has_gone(connection):
            os._exit(1)

    return check


def _peer_has_gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
