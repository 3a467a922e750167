"""Networks and sandboxes in the database; read once at start, written through."""

from __future__ import annotations

import logging
from concurrent.futures import Future

import msgspec

from services.engine.networks.model import NetworkRecord, SandboxRecord
from services.engine.store import Store

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


class Records:
    """Writes are done in the order of the calls (the store has one writer)."""

    def __init__(self, store: Store) -> None:
        self._store = store

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

    def put_sandbox(self, record: SandboxRecord) -> Future[None]:
        """Queued when this returns; :meth:`written` before anything of the sandbox is made."""
        return self._store.begin(
            "INSERT OR REPLACE INTO sandboxes VALUES (?, ?)", record.container_id, _encode(record)
        )

    async def written(self, write: Future[None]) -> None:
        await self._store.written(write)

    async def save_sandbox(self, record: SandboxRecord) -> None:
        await self.written(self.put_sandbox(record))

    def delete_sandbox(self, container_id: str) -> None:
        """Nobody waits for it: a row that outlives a crash is released by the restore."""
        write = self._store.begin("DELETE FROM sandboxes WHERE container_id=?", container_id)
        write.add_done_callback(_log_failure)


def _log_failure(write: Future[None]) -> None:
    if (error := write.exception()) is not None:
        log.error("a sandbox stays in the database until the next start: %s", error)
