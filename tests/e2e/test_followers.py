"""A thousand clients that follow streams do not make the API slow."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator

import pytest

from tests.harness.engine import Engine
from tests.harness.readiness import UnixConnection, wait_until
from tests.harness.streams import Stream

#: Of each kind: ``logs -f``, ``attach``, ``events``.
LOGS, ATTACHED, EVENTS = 500, 250, 250
#: Seconds for the median and for the slowest of the pings, on two cores.
MEDIAN, SLOWEST = 0.05, 1.0


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this host does not grant enough open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(400)
def test_thousand_followers(engine: Engine, name: str, many_files: None) -> None:
    engine.docker(
        "run",
        "-d",
        "-i",
        "--name",
        name,
        "busybox",
        "sh",
        "-c",
        "echo start; read x; echo answer $x; sleep 300",
    )
    streams: list[Stream] = []
    try:
        for _ in range(LOGS):
            streams.append(Stream(engine.socket, "GET", f"/containers/{name}/logs?follow=1&stdout=1"))
        for _ in range(ATTACHED):
            url = f"/containers/{name}/attach?stream=1&stdout=1"
            streams.append(Stream(engine.socket, "POST", url, upgrade=True))
        for _ in range(EVENTS):
            streams.append(
                Stream(engine.socket, "GET", f"/events?filters=%7B%22container%22%3A%5B%22{name}%22%5D%7D")
            )
        assert {stream.status for stream in streams} == {200, 101}
        # Again, if others were at work on this machine just then.
        wait_until(lambda: _is_quick([_ping(engine) for _ in range(60)]), "the API is quick")
        source = Stream(engine.socket, "POST", f"/containers/{name}/attach?stream=1&stdin=1", upgrade=True)
        source.socket.sendall(b"word\n")
        for stream in streams[: LOGS + ATTACHED]:
            _expect(stream, b"answer word")
        source.close()
        engine.docker("kill", name)
        for stream in streams[LOGS + ATTACHED :]:
            _expect(stream, b'"die"')
        for stream in streams[: LOGS + ATTACHED]:
            stream.rest()
    finally:
        for stream in streams:
            stream.close()
    wait_until(lambda: _ping(engine) < MEDIAN, "quiet again")


def _ping(engine: Engine) -> float:
    began = time.perf_counter()
    connection = UnixConnection(engine.socket, 30)
    connection.request("GET", "/_ping")
    assert connection.getresponse().read() == b"OK"
    connection.close()
    return time.perf_counter() - began


def _is_quick(times: list[float]) -> bool:
    return statistics.median(times) < MEDIAN and max(times) < SLOWEST


def _expect(stream: Stream, text: bytes) -> None:
    data = b""
    while text not in data:
        data += stream.read(1)
