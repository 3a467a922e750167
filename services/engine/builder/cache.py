"""The build cache: which image a step made of which parent.

An entry is the parent, and a digest of all that went into the step: instruction, configuration before
it, checksums of the files. It counts as long as the image is there.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Sequence

import msgspec

from services.engine.images import ImageManager
from services.engine.store import Schema, Store
from services.protocol.api.containers import Config

SCHEMA = Schema(
    "builder",
    (
        """CREATE TABLE build_cache (
            parent TEXT NOT NULL, key TEXT NOT NULL, image_id TEXT NOT NULL, PRIMARY KEY (parent, key))""",
        "CREATE TABLE build_results (image_id TEXT PRIMARY KEY)",
    ),
)


class BuildCache:
    def __init__(self, store: Store, images: ImageManager) -> None:
        self._store = store
        self._images = images
        self._entries: dict[tuple[str, str], str] = {
            (parent, key): image_id
            for parent, key, image_id in store.load("SELECT parent, key, image_id FROM build_cache")
        }

        self._results = {image_id for (image_id,) in store.load("SELECT image_id FROM build_results")}

    @staticmethod
    def key(config: Config, command: Sequence[str]) -> str:
        return hashlib.sha256(msgspec.json.encode([config, list(command)])).hexdigest()

    def find(self, parent: str, key: str) -> str | None:
        """Id of the image that this step made before, if it is still there."""
        image_id = self._entries.get((parent, key))
        if image_id is None or self._images.store.by_id(image_id) is None:
            return None
        return image_id

    async def remember(self, parent: str, key: str, image_id: str) -> None:
        self._entries[parent, key] = image_id
        await self._store.execute(
            "INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?)", parent, key, image_id
        )

    async def remember_result(self, image_id: str) -> None:
        """What a build was asked for is no cache."""
        if image_id not in self._results:
            self._results.add(image_id)
            await self._store.execute("INSERT OR REPLACE INTO build_results VALUES (?)", image_id)

    def is_result(self, image_id: str) -> bool:
        return image_id in self._results

    def images(self) -> set[str]:
        """Ids of the entries' images, also of those that are gone."""
        return set(self._entries.values())

    async def forget(self, images: Collection[str]) -> None:
        """The entries of *images*."""
        gone = set(images)
        self._entries = {at: image for at, image in self._entries.items() if image not in gone}

        def delete(connection: sqlite3.Connection) -> None:
            rows = [(image,) for image in gone]
            connection.executemany("DELETE FROM build_cache WHERE image_id = ?", rows)

        await self._store.write(delete)
