"""One process's streams: output to the log and to every attached client, clients' input to it.

A client that does not take its output makes the process wait, as in Docker; nothing else waits.
Once the process has exited nobody waits any more: the rest of its output goes to the log at once
and to the clients' backlogs (it is bounded by what the pipes hold).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from services.containerd_shim.logdrivers.base import STDERR, STDOUT
from services.containerd_shim.logdrivers.sink import LogSink
from services.containerd_shim.loop import Loop, Timer
from services.containerd_shim.stdio.client import Client
from services.containerd_shim.stdio.detach import DetachFilter, parse
from services.containerd_shim.stdio.input import Input
from services.containerd_shim.stdio.output import Output
from services.protocol.shim import Attach

#: Seconds that output is waited for after the process has exited, when others hold its streams.
DRAIN_TIMEOUT = 2.0


class Streams:
    """``terminal`` output is all one stream. ``sink`` None: no log is kept.

    ``once`` closes the input when the first client that attached it leaves; otherwise the end of a
    client's input ends that client's attachment and nothing else.
    """

    def __init__(self, loop: Loop, *, terminal: bool, once: bool, sink: LogSink | None) -> None:
        self._loop = loop
        self._terminal = terminal
        self._once = once and not terminal
        self._sink = sink
        self._clients: dict[Client, Attach] = {}
        self._outputs: dict[Output, int] = {}
        self._held_by: set[Client] = set()
        self._drained: Callable[[], None] | None = None
        self._timer: Timer | None = None
        self.input = Input(loop, self._pace_input)
        self.ended = False

    def start(self, outputs: dict[int, int], stdin: int | None) -> None:
        """Descriptors (owned from here on) by stream; *stdin* None: the process has no input."""
        for fd, stream in outputs.items():
            output = Output(self._loop, fd, self._deliver_as(stream), self._output_ended)
            self._outputs[output] = stream
        if stdin is not None:
            self.input.open(stdin)
        self._pace_output()

    def hold(self, client: Client) -> None:
        """Read no output until *client* joins, or leaves: it has some of the log still to take."""
        gone = client.on_gone

        def release() -> None:
            gone()
            self._held_by.discard(client)
            self._pace_output()

        client.on_gone = release
        self._held_by.add(client)
        self._pace_output()

    def join(self, client: Client, attach: Attach, detached: Callable[[], None], pending: bytes) -> None:
        """Send *client* what comes from now on, and take its input; *pending* is its first.

        *detached* is called when the user types the detach keys.
        """
        if self.ended:
            client.end()
            return
        self._clients[client] = attach
        self._held_by.discard(client)
        client.on_unblocked = self._pace_output
        client.on_gone = lambda: self._left(client)
        if attach.stdin:
            self._take_input(client, attach, detached, pending)
        self._pace_output()

    def _take_input(
        self, client: Client, attach: Attach, detached: Callable[[], None], pending: bytes
    ) -> None:
        keys = DetachFilter(parse(attach.detach_keys)) if self._terminal else None

        def take(data: bytes) -> None:
            gone = False
            if keys is not None:
                data, gone = keys.feed(data)
            if data:
                self.input.write(data)
            if gone:
                detached()
                client.end()
            elif self.input.full:
                self._pace_input()

        first = [pending] if pending else []
        client.on_input = take
        client.on_input_end = lambda: self._input_ended(client)
        client.on_room = lambda: take(first.pop()) if first else None
        self._pace_input()

    def _pace_input(self) -> None:
        """Read the clients' input while the process takes it."""
        room = not self.input.full
        for client, attach in list(self._clients.items()):
            if attach.stdin and not client.input_ended:
                if room:
                    client.on_room()
                    room = not self.input.full
                client.read(room)

    def _input_ended(self, client: Client) -> None:
        if self._once:
            self.input.close()
        else:
            client.end()

    def _left(self, client: Client) -> None:
        attach = self._clients.pop(client, None)
        if attach is not None and attach.stdin and self._once:
            self.input.close()

    def _deliver_as(self, stream: int) -> Callable[[bytes], None]:
        def deliver(data: bytes) -> None:
            if self._sink is not None:
                self._sink.feed(stream, data)
                if self._sink.waiting:
                    self._loop.soon(self._sink.flush)
            if self._clients:
                self._send(stream, data)

        return deliver

    def _send(self, stream: int, data: bytes) -> None:
        blocked = False
        for client, attach in list(self._clients.items()):
            if attach.stderr if stream == STDERR else attach.stdout:
                client.frame(stream, data)
                blocked = blocked or client.blocked
        if blocked:
            self._pace_output()

    def _pace_output(self) -> None:
        """Read output unless a client has not taken what it was sent."""
        held = self._held_by or any(client.blocked for client in self._clients)
        wanted = self._drained is not None or not held
        for output in list(self._outputs):
            output.watch(wanted)

    def _output_ended(self, output: Output) -> None:
        stream = self._outputs.pop(output)
        if self._sink is not None:
            self._sink.finish(stream)
        if not self._outputs and self._drained is not None:
            self._finish()

    def process_exited(self, drained: Callable[[], None]) -> None:
        """Call *drained* once all output has been read and logged."""
        self.input.abandon()
        self._drained = drained
        for output in list(self._outputs):
            output.process_exited()
            output.read_rest()
        if self._drained is not None:
            if self._outputs:
                self._timer = self._loop.later(DRAIN_TIMEOUT, self._finish)
            else:
                self._finish()

    def _finish(self) -> None:
        drained, self._drained = self._drained, None
        if self._timer is not None:
            self._timer.cancel()
        for output, stream in list(self._outputs.items()):
            output.close()
            if self._sink is not None:
                self._sink.finish(stream)
        self._outputs.clear()
        self.ended = True
        if drained is not None:
            drained()

    def end_clients(self) -> None:
        """The process has ended: so do all attachments, when they have taken their output."""
        for client in list(self._clients):
            client.end()

    def write_error(self, text: str) -> None:
        """Tell the attached clients why the process could not be started."""
        for client in list(self._clients):
            client.frame(STDOUT, text.encode() + b"\r\n")

    @property
    def clients(self) -> int:
        """How many clients are attached or still taking output."""
        return len(self._clients)


def make_pipes(count: int, size: int) -> list[tuple[int, int]]:
    """*count* pipes (read end, write end) of *size* bytes, or what the host allows."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(count)]
    for reader, _ in pipes:
        try:
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, size)
        except OSError:
            pass
    return pipes
