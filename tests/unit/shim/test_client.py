"""The end of a client's connection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from services.containerd_shim.loop import Loop
from services.containerd_shim.stdio import client as module
from services.containerd_shim.stdio.client import Client


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    made.later(20, made.stop)
    yield made
    made.abandon()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(20)
    with ours, theirs:
        yield ours, theirs


def test_input_that_nobody_reads_is_no_error_of_the_output(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    client = Client(loop, ours.detach())
    closed: list[bool] = []
    client.on_closed = lambda: closed.append(True)
    theirs.sendall(b"typed ahead")
    client.frame(1, b"output")
    client.end()
    assert client.closed and not closed  # the shim lives until it has the socket no more
    assert theirs.recv(100) == b"output"
    assert theirs.recv(100) == b""  # and not a connection that was reset
    theirs.sendall(b"typed too late")
    theirs.close()
    client._forget = _then(loop, client._forget)  # type: ignore[method-assign]
    loop.run()
    assert client._fd == -1 and closed


def test_a_client_that_stays_is_left(
    loop: Loop, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER", 0.05)
    ours, theirs = pair
    client = Client(loop, ours.detach())
    client._forget = _then(loop, client._forget)  # type: ignore[method-assign]
    client.end()
    loop.run()
    assert client._fd == -1
    with pytest.raises(BrokenPipeError):
        theirs.sendall(b"x")


def test_a_client_that_has_ended_its_input_is_closed_at_once(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    client = Client(loop, ours.detach())
    client.on_input_end = client.end
    client.on_closed = loop.stop
    client.read(True)
    theirs.shutdown(socket.SHUT_WR)
    loop.run()
    assert client._fd == -1 and theirs.recv(1) == b""


def _then(loop: Loop, forget: Callable[[], None]) -> Callable[[], None]:
    """*forget*, and the end of *loop*."""

    def both() -> None:
        forget()
        loop.stop()

    return both
