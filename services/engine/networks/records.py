"""Networks and sandboxes in the database; read once at start, written through."""

from __future__ import annotations

import asyncio

import msgspec

from services.engine.networks.model import NetworkRecord, SandboxRecord
from services.engine.scopes import Background
from services.engine.store import Store

_encode = msgspec.json.Encoder().encode


class Records:
    """Writes are done in the order of the calls (the store has one writer)."""

    def __init__(self, store: Store, background: Background) -> None:
        self._store = store
        self._background = background

    def networks(self) -> list[NetworkRecord]:
        rows = self._store.load("SELECT document FROM networks")
        return [msgspec.json.decode(row[0], type=NetworkRecord) for row in rows]

    def sandboxes(self) -> list[SandboxRecord]:
        rows = self._store.load("SELECT document FROM sandboxes")
        return [msgspec.json.decode(row[0], type=SandboxRecord) for row in rows]

    async def put_network(self, record: NetworkRecord) -> None:
        await self._store.execute(
            "INSERT OR REPLACE INTO networks VALUES (?, ?, ?)", record.id, record.name, _encode(record)
        )

    async def delete_network(self, network_id: str) -> None:
        await self._store.execute("DELETE FROM networks WHERE id=?", network_id)

    def put_sandbox(self, record: SandboxRecord) -> asyncio.Task[None]:
        """Started at once; await it before anything of the sandbox is made."""
        write = self._store.execute(
            "INSERT OR REPLACE INTO sandboxes VALUES (?, ?)", record.container_id, _encode(record)
        )
        return self._background.spawn(write, name="put-sandbox")

    def delete_sandbox(self, container_id: str) -> asyncio.Task[None]:
        """Need not be awaited: a row that outlives a crash is released by the restore."""
        write = self._store.execute("DELETE FROM sandboxes WHERE container_id=?", container_id)
        return self._background.spawn(write, name="delete-sandbox")
