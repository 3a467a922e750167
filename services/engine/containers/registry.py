"""All containers of the daemon: by id, by name, by unambiguous id prefix; written to the database.

Lookups cost the same with ten containers and ten thousand. What a method has returned from is on
disk. Names are reserved in memory first, so that two creates cannot both have one.
"""

from __future__ import annotations

import bisect
import sqlite3
from collections.abc import Iterator

import msgspec

from services.engine.containers.model import Container, ContainerState, Entry
from services.engine.containers.removed import LIMIT as REMEMBERED
from services.engine.containers.removed import Removed
from services.engine.store import Schema, Store
from services.protocol.errors import Conflict, InvalidParameter, NotFound

SCHEMA = Schema(
    "containers",
    (
        """CREATE TABLE containers (
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,
            definition BLOB NOT NULL, state BLOB NOT NULL)""",
        "CREATE TABLE removed (id TEXT NOT NULL, name TEXT NOT NULL, exit_code INTEGER NOT NULL)",
    ),
)

_encode = msgspec.msgpack.encode


class Registry:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_id: dict[str, Entry] = {}
        self._names: dict[str, str] = {}
        self._ids: list[str] = []
        #: The end of the containers that are not there any more.
        self.removed = Removed()
        for row in store.load("SELECT id, name, exit_code FROM removed ORDER BY rowid"):
            self.removed.add(*row)
        for definition, state in store.load("SELECT definition, state FROM containers"):
            entry = Entry(
                msgspec.msgpack.decode(definition, type=Container),
                msgspec.msgpack.decode(state, type=ContainerState),
            )
            self._insert(entry)
            self._names[entry.definition.name] = entry.id

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, container_id: str) -> Entry | None:
        """By full id only."""
        return self._by_id.get(container_id)

    def get(self, ref: str) -> Entry:
        """By full id, name (with or without a slash) or unambiguous id prefix, in this order.

        Raises ``NotFound`` ("No such container: ref") or ``InvalidParameter`` (empty or ambiguous).
        """
        if not ref:
            raise InvalidParameter("invalid container name or ID: value is empty")
        if (entry := self._by_id.get(ref)) is not None:
            return entry
        if (container_id := self._names.get(ref.removeprefix("/"))) is not None and (
            entry := self._by_id.get(container_id)
        ) is not None:
            return entry
        if (linked := self._linked(ref)) is not None:
            return linked
        return self._by_id[self._expand(ref)]

    def _linked(self, path: str) -> Entry | None:
        """By the name that a legacy link gives: ``/owner/alias`` (see ``links``)."""
        name, _, alias = path.removeprefix("/").partition("/")
        if not alias or (owner := self._by_id.get(self._names.get(name, ""))) is None:
            return None
        for link in owner.definition.host_config.links or ():
            container_id, _, other = link.partition(":")
            if other == alias:
                return self._by_id.get(container_id)
        return None

    def _expand(self, prefix: str) -> str:
        at = bisect.bisect_left(self._ids, prefix)
        if at < len(self._ids) and self._ids[at].startswith(prefix):
            if at + 1 < len(self._ids) and self._ids[at + 1].startswith(prefix):
                raise InvalidParameter(f"Multiple IDs found with provided prefix: {prefix}")
            return self._ids[at]
        raise NotFound(f"No such container: {prefix}")

    def has_id_prefix(self, prefix: str) -> bool:
        at = bisect.bisect_left(self._ids, prefix)
        return at < len(self._ids) and self._ids[at].startswith(prefix)

    def is_unambiguous(self, prefix: str) -> bool:
        """Exactly one container's id starts with *prefix*."""
        at = bisect.bisect_left(self._ids, prefix)
        following = self._ids[at : at + 2]
        return len([one for one in following if one.startswith(prefix)]) == 1

    def reserve_name(self, name: str, container_id: str) -> None:
        """Atomic; raises ``Conflict`` with Docker's text when another container has it."""
        owner = self._names.setdefault(name, container_id)
        if owner != container_id:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def name_taken(self, name: str) -> bool:
        return name in self._names

    def release_name(self, name: str, container_id: str) -> None:
        if self._names.get(name) == container_id:
            del self._names[name]

    async def add(self, entry: Entry) -> None:
        """Register a new container whose name is reserved; visible when this returns."""
        await self._store.execute(
            "INSERT INTO containers VALUES (?, ?, ?, ?)",
            entry.id,
            entry.definition.name,
            _encode(entry.definition),
            _encode(entry.state),
        )
        self._insert(entry)

    async def discard(self, entry: Entry) -> None:
        """Nobody was told of this new container, and nobody will be; its name stays reserved."""
        self._drop(entry)
        await self._store.execute("DELETE FROM containers WHERE id=?", entry.id)

    async def save_state(self, entry: Entry) -> None:
        """Write the state and wake those who wait for a change of it."""
        await self._store.execute("UPDATE containers SET state=? WHERE id=?", _encode(entry.state), entry.id)
        entry.runtime.notify()

    async def save(self, entry: Entry) -> None:
        """Write definition and state, as one."""
        await self._store.execute(
            "UPDATE containers SET definition=?, state=? WHERE id=?",
            _encode(entry.definition),
            _encode(entry.state),
            entry.id,
        )
        entry.runtime.notify()

    async def save_definition(self, entry: Entry) -> None:
        """Write name and definition."""
        await self._store.execute(
            "UPDATE containers SET name=?, definition=? WHERE id=?",
            entry.definition.name,
            _encode(entry.definition),
            entry.id,
        )

    async def remove(self, entry: Entry) -> None:
        """Gone; how it ended is remembered for a while, in the same transaction."""
        ended = (entry.id, entry.definition.name, entry.state.exit_code)

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM containers WHERE id=?", (entry.id,))
            connection.execute("INSERT INTO removed VALUES (?, ?, ?)", ended)
            connection.execute(
                "DELETE FROM removed WHERE rowid <= (SELECT max(rowid) FROM removed) - ?", (REMEMBERED,)
            )

        await self._store.write(write)
        self.removed.add(*ended)
        self._drop(entry)
        self.release_name(entry.definition.name, entry.id)
        entry.runtime.notify()

    def _drop(self, entry: Entry) -> None:
        self._by_id.pop(entry.id, None)
        at = bisect.bisect_left(self._ids, entry.id)
        if at < len(self._ids) and self._ids[at] == entry.id:
            del self._ids[at]

    def _insert(self, entry: Entry) -> None:
        self._by_id[entry.id] = entry
        bisect.insort(self._ids, entry.id)
