"""Following a log up to a time: whoever is late gets no less."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.containerd_shim.logdrivers.base import STDOUT
from services.containerd_shim.logdrivers.sink import LogSink, open_sink
from services.containerd_shim.loop import IN, Loop, Timer
from services.containerd_shim.stdio.client import Client
from services.containerd_shim.stdio.follow import Follower, LogHub
from services.protocol.shim import ReadLogs


class World:
    def __init__(self, root: Path, options: dict[str, str]) -> None:
        self.loop = Loop()
        sink = open_sink("json-file", str(root / "log"), options, {})
        assert isinstance(sink, LogSink)
        self.sink = sink
        self.hub = LogHub(self.loop, sink)
        self.theirs, ours = socket.socketpair()
        self.client = Client(self.loop, ours.detach())
        self.client.on_closed = self.loop.stop

    def follow(self, until: int) -> bytes:
        """What the client of a follower gets; the loop runs to the client's end."""
        Follower(self.hub, self.client, ReadLogs(follow=True, until=until, multiplexed=False))
        received = bytearray()

        def read() -> None:
            with self.theirs:
                while data := self.theirs.recv(1 << 16):
                    received.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        self.loop.run()
        reader.join()
        return bytes(received)


@pytest.fixture(params=["blocking", "non-blocking"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(tmp_path, {"mode": request.param})
    yield made
    made.loop.abandon()


def test_what_was_there_comes_although_the_time_has_passed(world: World) -> None:
    lines = b"".join(b"%d\n" % number for number in range(100_000))  # no connection takes it at once
    for begin in range(0, len(lines), 1 << 16):
        world.sink.feed(STDOUT, lines[begin : begin + (1 << 16)])
        world.sink.flush()
    assert world.follow(until=time.time_ns()) == lines


def test_what_is_written_before_the_time_comes_although_all_are_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time comes in the very round of the loop in which the last record was written."""
    world.sink.feed(STDOUT, b"first\n")
    later = world.loop.later
    reached: list[Callable[[], None]] = []

    def hold(_seconds: float, callback: Callable[[], None]) -> Timer:
        reached.append(callback)
        return Timer(0, callback)

    monkeypatch.setattr(world.loop, "later", hold)
    reader, writer = os.pipe()

    def written(_events: int) -> None:
        world.loop.remove(reader)
        world.sink.feed(STDOUT, b"last\n")
        later(0, reached[0])

    def caught_up(follower: Follower) -> None:
        LogHub.caught_up(world.hub, follower)
        monkeypatch.undo()
        os.close(writer)

    monkeypatch.setattr(world.hub, "caught_up", caught_up)
    world.loop.add(reader, IN, written)
    shown = world.follow(until=time.time_ns() + 3600 * 10**9)
    os.close(reader)
    assert shown == b"first\nlast\n"
