"""The process everything is forked from: warm, single-threaded, without gRPC.

Executed once by the task service. It has imported all that shims and helpers need, and frozen it,
so that a fork costs little time and its child shares nearly all memory. It never blocks: children
do the work.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import setproctitle

from reexec.registry import HELPERS
from services.containerd_shim import helper_child, plainfork
from services.containerd_shim.forking import Forked, ForkShim, Reclaim, ToZygote
from services.containerd_shim.loop import IN, Loop, ignore_signals, set_handler, watch_children
from services.containerd_shim.reclaim import reclaim
from services.containerd_shim.runtime import seccomp
from services.containerd_shim.shim import main as shim_main
from services.containerd_shim.shim.rehearsal import DEFAULT_CAPABILITIES, rehearse
from services.protocol import fdpass
from services.protocol import task_pb2 as pb
from services.protocol.errors import WharfError, to_failure
from services.protocol.fdpass import HandoverEnvelope
from services.protocol.helpers import HelperRequest

#: Signals that the zygote has handlers for, which its children get rid of first.
_HANDLED = tuple(map(int, (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)))
_DEFAULT = int(signal.SIG_DFL)
#: Helpers walk trees by functions that call themselves, some levels of calls for each of a path's 2048.
_RECURSION = 20_000

_decode_service = msgspec.msgpack.Decoder(ToZygote).decode
_decode_helper = msgspec.msgpack.Decoder(HelperRequest | HandoverEnvelope).decode


class Zygote:
    """*service* is the task service's socket, *listener* accepts those who want helpers."""

    def __init__(self, loop: Loop, service: socket.socket, listener: socket.socket) -> None:
        self._loop = loop
        self._service = service
        self._listener = listener
        self._waiting: dict[int, socket.socket] = {}
        self._on_exit: dict[int, Callable[[int], None]] = {}
        for sock in (service, listener):
            sock.setblocking(False)
        loop.add(service.fileno(), IN, self._from_service)
        loop.add(listener.fileno(), IN, self._accept)
        watch_children(loop, self._child_exited)

    def _child_exited(self, pid: int, code: int) -> None:
        if (tell := self._on_exit.pop(pid, None)) is not None:
            tell(code)

    # The task service.

    def _from_service(self, _: int) -> None:
        try:
            data, fds = fdpass.receive_raw(self._service)
        except BlockingIOError:
            return
        except (OSError, WharfError):
            data, fds = b"", []
        if not data:
            self._loop.stop()
            return
        try:
            self._serve(_decode_service(data), fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _serve(self, message: ToZygote, fds: list[int]) -> None:
        try:
            if isinstance(message, ForkShim):
                pid = self._fork(fds[:1], lambda: _be_shim(message, fds[0]), plainfork.fork)
                self._answer(Forked(message.seq, pid))
            else:
                self._reclaim(message, Path(message.directory))
        except Exception as error:
            self._answer(Forked(message.seq, failure=to_failure(error)))

    def _reclaim(self, message: Reclaim, directory: Path) -> None:
        def ended(code: int) -> None:
            self._answer(Forked(message.seq, pid if code == 0 else 0))

        pid = self._fork([], lambda: _reclaim(directory))
        self._on_exit[pid] = ended

    def _answer(self, answer: Forked) -> None:
        try:
            fdpass.send(self._service, answer)
        except OSError:
            self._loop.stop()

    # Helpers.

    def _accept(self, _: int) -> None:
        try:
            connection, _address = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        fd = connection.fileno()
        self._waiting[fd] = connection
        self._loop.add(fd, IN, lambda events: self._request(fd))

    def _request(self, fd: int) -> None:
        connection = self._waiting[fd]
        data, fds = b"", list[int]()
        try:
            data, fds = fdpass.receive_raw(connection)
        except BlockingIOError:
            return
        except (OSError, WharfError) as error:
            print(f"helper request failed: {error}", file=sys.stderr)
        try:
            if data:
                message = _decode_helper(data)
                self._fork([fd, *fds], lambda: _be_helper(connection, message, fds))
        except (OSError, msgspec.MsgspecError) as error:  # who asked sees the connection end
            print(f"helper request failed: {error}", file=sys.stderr)
        self._loop.remove(fd)
        del self._waiting[fd]
        connection.close()
        for passed in fds:
            os.close(passed)

    def _fork(self, keep: list[int], child: Callable[[], int], fork: Callable[[], int] = os.fork) -> int:
        """Run *child* in a forked process that has only *keep* and the standard descriptors open."""
        pid = fork()
        if pid:
            return pid
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _HANDLED:
                set_handler(number, _DEFAULT)
            self._loop.abandon()
            _close_all_but(keep)
            status = child()
        except BaseException:
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(status)


def _close_all_but(keep: list[int]) -> None:
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _be_shim(message: ForkShim, listener: int) -> int:
    shim_main.run(pb.StartShimRequest.FromString(message.request), message.directory, listener)
    return 0


def _reclaim(directory: Path) -> int:
    reclaim(directory)
    return 0


def _be_helper(connection: socket.socket, message: HelperRequest | HandoverEnvelope, fds: list[int]) -> int:
    if isinstance(message, HelperRequest):
        return helper_child.serve(connection, message, fds)
    return helper_child.serve_client(connection, message, fds)


def preload() -> None:
    """Import what children will need and compile the default seccomp filter, once for all."""
    for module in HELPERS.values():
        try:
            importlib.import_module(module)
        except ImportError as error:  # one helper less must not keep containers from starting
            print(f"{module} cannot be loaded: {error}", file=sys.stderr)
    seccomp.warm(DEFAULT_CAPABILITIES)


def main() -> None:
    parser = argparse.ArgumentParser(prog="zygote")
    parser.add_argument("--service-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--scratch", required=True, help="directory that nobody else uses")
    options = parser.parse_args()
    setproctitle.setproctitle("wharfd: zygote")
    sys.setrecursionlimit(_RECURSION)
    ignore_signals(signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
    preload()
    try:
        rehearse(options.scratch)
    except (OSError, WharfError) as error:  # shims are larger without it, and work
        print(f"no rehearsal: {error}", file=sys.stderr)
    loop = Loop()
    Zygote(loop, socket.socket(fileno=options.service_fd), socket.socket(fileno=options.listen_fd))
    gc.collect()
    gc.disable()
    gc.freeze()
    loop.run()


if __name__ == "__main__":
    main()
