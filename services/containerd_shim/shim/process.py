"""One program of the container, init or exec: its streams, its life, who waits for its end."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable
from contextlib import ExitStack

from services.containerd_shim.logdrivers.base import STDERR, STDOUT
from services.containerd_shim.logdrivers.sink import LogSink
from services.containerd_shim.loop import Loop
from services.containerd_shim.runtime.container import Started, Stdio
from services.containerd_shim.stdio.pump import Streams, make_pipes
from services.protocol import task_pb2 as pb

#: Bytes a pipe holds before the program waits (the kernel's default upper limit for users).
PIPE_SIZE = 1024 * 1024


class Process:
    """``exec_id`` "" is init. ``status`` is one of ``pb.Status``: PREPARED (not begun) and on."""

    def __init__(
        self, loop: Loop, exec_id: str, *, terminal: bool, open_stdin: bool, once: bool, sink: LogSink | None
    ) -> None:
        self.exec_id = exec_id
        self.terminal = terminal
        self.open_stdin = open_stdin
        self.streams = Streams(loop, terminal=terminal, once=once, sink=sink)
        self.status: pb.Status = pb.PREPARED
        self.pid = 0
        self.pidfd = -1
        self.console = -1
        self.started_at = 0
        self.exited_at = 0
        self.exit_status = 0
        self.oom_killed = False
        #: An exec that has not begun: how to begin it, and the size of its terminal.
        self.begin: Callable[[Stdio], Started] | None = None
        self.console_size: tuple[int, int] | None = None
        self.start_error: Exception | None = None
        #: Called with the process once it is STOPPED.
        self.waiters: list[Callable[[Process], None]] = []

    def launch(self, start: Callable[[Stdio], Started], *, silent: bool = False) -> None:
        """Make the streams and call *start* with the program's ends of them.

        *silent*: nobody will ever read the output; it goes nowhere, without passing here.
        """
        with ExitStack() as ends:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            ends.callback(os.close, null)
            if self.terminal or silent:
                self._started(start(Stdio(null, null, null)), {}, None)
                return
            ours = ends.enter_context(ExitStack())
            reads: dict[int, int] = {}
            writes: dict[int, int] = {}
            for stream, (reader, writer) in zip((STDOUT, STDERR), make_pipes(2, PIPE_SIZE), strict=True):
                reads[reader], writes[stream] = stream, writer
                ours.callback(os.close, reader)
                ends.callback(os.close, writer)
            stdin, stdin_writer = null, None
            if self.open_stdin:
                stdin, stdin_writer = make_pipes(1, PIPE_SIZE)[0]
                ends.callback(os.close, stdin)
                ours.callback(os.close, stdin_writer)
            started = start(Stdio(stdin, writes[STDOUT], writes[STDERR]))
            ours.pop_all()
            self._started(started, reads, stdin_writer)

    def _started(self, started: Started, outputs: dict[int, int], stdin: int | None) -> None:
        self.pid, self.pidfd = started.pid, started.pidfd
        if started.console is not None:
            self.console = started.console
            outputs = {os.dup(self.console): STDOUT}
            stdin = os.dup(self.console) if self.open_stdin else None
        self.streams.start(outputs, stdin)

    def running(self) -> None:
        self.status = pb.RUNNING
        self.started_at = time.time_ns()

    def resize(self, height: int, width: int) -> None:
        """Of the terminal, in characters; nothing without a terminal."""
        if self.console >= 0:
            fcntl.ioctl(self.console, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def exited(self, code: int, drained: Callable[[], None]) -> None:
        """The program has ended; *drained* is called when its output is complete."""
        self.exit_status = code
        self.exited_at = time.time_ns()
        self.streams.process_exited(drained)

    def stopped(self) -> None:
        """All of it is known: tell those who wait, let the clients go."""
        self.status = pb.STOPPED
        for fd in (self.pidfd, self.console):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.console = -1
        waiters, self.waiters = self.waiters, []
        for tell in waiters:
            tell(self)
        self.streams.end_clients()
