"""The engine's database: SQLite in WAL mode, one writer thread, group commit.

What :meth:`Store.write` has returned survives ``kill -9`` and power loss (``synchronous=FULL``;
https://www.sqlite.org/pragma.html#pragma_synchronous). Writes that wait at the same time share one
commit, so one fsync. Each package registers its own :class:`Schema`.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from services.engine.scopes import settled
from services.protocol.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True)
class Schema:
    """A package's tables. ``migrations[n]`` brings version n to n+1; never edit a released one."""

    name: str
    migrations: tuple[str, ...]


@dataclass(frozen=True)
class _Work:
    function: Callable[[sqlite3.Connection], Any]
    future: Future[Any]


class Store:
    """``write`` runs a function of the connection inside a transaction, in the writer thread.

    The function must be short and must not keep the connection. If it raises, its own changes are
    rolled back (savepoint) and the error reaches the caller; others in the same commit are kept.
    """

    def __init__(self, path: Path, schemas: tuple[Schema, ...]) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA foreign_keys=ON")
        _migrate(self._connection, schemas)
        self._closed = False
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Queue *function*: it is committed before, or together with, whatever is queued later.

        For a write that means nothing without a later one, whose caller waits for the commit.
        """
        future: Future[T] = Future()
        if self._closed:
            future.set_exception(Unavailable("the database is closed"))
        else:
            self._queue.put(_Work(function, future))
        return future

    async def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run *function* and commit.

        A cancelled caller does not stop the write: it learns how it ended, can make its memory agree,
        and is cancelled at its next await (:func:`~services.engine.scopes.settled`).
        """
        return await self.written(self.submit(function))

    async def written(self, future: Future[T]) -> T:
        """The end of what was submitted, as :meth:`write` waits for it."""
        return await settled(asyncio.wrap_future(future))

    async def execute(self, sql: str, *parameters: object) -> None:
        """One statement, committed."""
        await self.written(self.begin(sql, *parameters))

    def begin(self, sql: str, *parameters: object) -> Future[None]:
        """As :meth:`execute`, queued when this returns; for :meth:`written`."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(sql, parameters)

        return self.submit(write)

    def load(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows, read synchronously: for start-up, before anything is served."""
        return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            if work is None:
                return
            batch = [work]
            last = False
            while not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    last = True
                    break
                batch.append(more)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[_Work]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work in batch:
                self._connection.execute("SAVEPOINT work")
                try:
                    result = work.function(self._connection)
                except Exception as error:
                    self._connection.execute("ROLLBACK TO work")
                    work.future.set_exception(error)
                else:
                    done.append((work.future, result))
                self._connection.execute("RELEASE work")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for work in batch:
                if not work.future.done():
                    work.future.set_exception(error)
            return
        for future, result in done:
            future.set_result(result)


def _migrate(connection: sqlite3.Connection, schemas: tuple[Schema, ...]) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL)")
    for schema in schemas:
        row = connection.execute("SELECT version FROM schema WHERE name=?", (schema.name,)).fetchone()
        version = row[0] if row else 0
        if version > len(schema.migrations):
            raise RuntimeError(f"engine.db is of a newer wharfd: {schema.name} has version {version}")
        for number in range(version, len(schema.migrations)):
            connection.executescript(
                f"BEGIN IMMEDIATE; {schema.migrations[number]}; "
                f"INSERT INTO schema VALUES ('{schema.name}', {number + 1}) "
                f"ON CONFLICT(name) DO UPDATE SET version=excluded.version; COMMIT;"
            )
