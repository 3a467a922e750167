"""The database and callers that are cancelled while their write is queued."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.engine.store import Schema, Store
from services.protocol.errors import Unavailable

_SCHEMA = Schema("things", ("CREATE TABLE things (name TEXT PRIMARY KEY)",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "engine.db", (_SCHEMA,))
    try:
        yield made
    finally:
        made.close()


def _held(store: Store) -> threading.Event:
    """The writer waits for this event before it does what comes next."""
    gate = threading.Event()
    store.submit(lambda _: gate.wait(60) and None)
    return gate


def _names(store: Store) -> list[str]:
    return [name for (name,) in store.load("SELECT name FROM things ORDER BY name")]


def test_a_cancelled_caller_learns_of_its_write_and_is_cancelled_next(store: Store) -> None:
    memory: list[str] = []

    async def add() -> None:
        await store.execute("INSERT INTO things VALUES ('a')")
        memory.append("a")
        await asyncio.sleep(10)
        memory.append("never")

    async def body() -> None:
        gate = _held(store)
        task = asyncio.ensure_future(add())
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        task.cancel()  # twice is no different
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(body())
    assert memory == ["a"] == _names(store)


def test_a_failed_write_of_a_cancelled_caller_raises_its_error(store: Store) -> None:
    seen: list[BaseException] = []

    async def add() -> None:
        try:
            await store.execute("INSERT INTO nothing VALUES ('a')")
        except sqlite3.Error as error:
            seen.append(error)
            await asyncio.sleep(10)

    async def body() -> None:
        gate = _held(store)
        task = asyncio.ensure_future(add())
        await asyncio.sleep(0.02)
        task.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(body())
    assert len(seen) == 1


def test_a_timeout_around_a_write_is_still_one(store: Store) -> None:
    async def body() -> None:
        gate = _held(store)
        asyncio.get_running_loop().call_later(0.1, gate.set)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await store.execute("INSERT INTO things VALUES ('b')")
                await asyncio.sleep(10)
        await asyncio.sleep(0)  # nothing of the timeout is left to cancel this

    asyncio.run(body())
    assert _names(store) == ["b"]


def test_a_closed_database_refuses(tmp_path: Path) -> None:
    async def body() -> None:
        store = Store(tmp_path / "engine.db", (_SCHEMA,))
        store.close()
        with pytest.raises(Unavailable):
            await store.execute("INSERT INTO things VALUES ('c')")

    asyncio.run(body())
