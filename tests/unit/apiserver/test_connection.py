"""A connection by itself: what depends on when things come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from services.apiserver.connection import Connection


class _Loop:
    """Time passes by hand."""

    def __init__(self) -> None:
        self._later: list[Callable[[], None]] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._later.append(callback)

    def wait(self) -> None:
        self._later.pop()()


class _Transport:
    def __init__(self) -> None:
        self.done: list[str] = []

    def write(self, data: bytes) -> None:
        self.done.append("write")

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")


def test_a_refused_client_that_goes_on_sending_is_not_reset() -> None:
    """What is unread when a connection is closed resets it, and the client never reads the refusal."""
    connection: Any = Connection.__new__(Connection)
    loop, transport = _Loop(), _Transport()
    connection.loop, connection.transport, connection.cycle = loop, transport, None
    connection._refused = connection._heard = False
    cast(Connection, connection)._refuse("400 Bad Request", "no")
    for _ in range(3):
        connection.data_received(b"x")
        loop.wait()
    assert transport.done == ["write", "eof"]
    loop.wait()
    assert transport.done == ["write", "eof", "close"]
