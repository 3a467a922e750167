"""Under which compressed blobs registries know our layers: for existence checks and mounts at a push.

A hint only: a registry is always asked.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from services.engine.layers import LayerManager
from services.engine.store import Schema, Store

SCHEMA = Schema(
    "layer_blobs",
    (
        """CREATE TABLE layer_blobs (
            diff_id TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, media_type TEXT NOT NULL,
            repository TEXT NOT NULL, PRIMARY KEY (diff_id, digest, repository))""",
    ),
)


@dataclass(frozen=True)
class LayerBlob:
    """``repository`` is where it was seen (``docker.io/library/busybox``); ``size`` in bytes."""

    diff_id: str
    digest: str
    size: int
    media_type: str
    repository: str


class LayerBlobs:
    def __init__(self, store: Store, layers: LayerManager) -> None:
        self._store = store
        self._layers = layers
        self._by_diff: defaultdict[str, list[LayerBlob]] = defaultdict(list)
        store.submit(
            lambda connection: (
                connection.execute(
                    "DELETE FROM layer_blobs WHERE diff_id NOT IN (SELECT diff_id FROM layers)"
                )
                and None
            )
        ).result()
        rows = store.load("SELECT diff_id, digest, size, media_type, repository FROM layer_blobs")
        for row in rows:
            blob = LayerBlob(*row)
            self._by_diff[blob.diff_id].append(blob)

    def of(self, diff_id: str) -> list[LayerBlob]:
        """Newest first."""
        return self._by_diff.get(diff_id, [])[::-1]

    async def add(self, blob: LayerBlob) -> None:
        if blob in self._by_diff.get(blob.diff_id, ()):
            return
        self._by_diff[blob.diff_id].append(blob)
        await self._store.execute(
            "INSERT OR REPLACE INTO layer_blobs VALUES (?, ?, ?, ?, ?)",
            blob.diff_id,
            blob.digest,
            blob.size,
            blob.media_type,
            blob.repository,
        )
