"""Terminals of the command line: handed to a console socket, or relayed in the foreground."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Iterator

from services.containerd_shim.runtime.container import Started
from services.protocol.errors import InvalidParameter

_FORWARDED = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
]


def check_console_socket(path: str | None, *, has_terminal: bool, detached: bool) -> None:
    """The rules of runc's ``setupIO``; raises InvalidParameter."""
    if path and not has_terminal:
        raise InvalidParameter("cannot use console socket if the container has no terminal")
    if path and not detached:
        raise InvalidParameter("cannot use console socket if not detached")
    if detached and has_terminal and not path:
        raise InvalidParameter("cannot allocate tty if runc will detach without setting console socket")


def send_console(path: str, master: int) -> None:
    """Send the master to whoever listens on *path* (containerd's go-runc, podman's conmon)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))]
        sock.sendmsg([b"/dev/ptmx"], rights)


@contextlib.contextmanager
def foreground(started: Started) -> Iterator[None]:
    """Forward signals to the process and, with a terminal, put ours into raw mode."""

    def forward(number: int, _frame: object) -> None:
        if number == signal.SIGWINCH:
            _copy_size(started.console)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(started.pidfd, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    saved = None
    if started.console is not None and os.isatty(0):
        saved = termios.tcgetattr(0)
        tty.setraw(0)
        _copy_size(started.console)
    try:
        yield
    finally:
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)


def _copy_size(master: int | None) -> None:
    if master is not None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(master, termios.TIOCSWINSZ, fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))


def wait(started: Started) -> int:
    """Relay the terminal until the process has ended; its exit status, 128+n for a signal."""
    if started.console is None:
        select.select([started.pidfd], [], [])
    else:
        _relay(started, started.console)
    _, status = os.waitpid(started.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _relay(started: Started, master: int) -> None:
    sources = [master, 0, started.pidfd]
    while True:
        readable = select.select(sources, [], [])[0]
        if started.pidfd in readable:
            # Its last words may have come after the terminal was looked at, and before it was seen to end.
            readable = select.select([master, started.pidfd], [], [])[0]
        if master in readable:
            try:
                data = os.read(master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            _write_all(1, data)
        elif 0 in readable:
            data = os.read(0, 1 << 16)
            if data:
                _write_all(master, data)
            else:
                sources.remove(0)
        elif started.pidfd in readable:
            # The terminal is drained: whoever else holds it is left to itself.
            return


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
