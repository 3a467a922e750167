"""The build cache: which image a step made of which parent.

An entry is the parent, and a digest of all that went into the step: instruction, configuration before
it, checksums of the files. It counts as long as the image is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from services.engine.images import ImageManager
from services.engine.store import Schema, Store
from services.protocol.api.containers import Config

SCHEMA = Schema(
    "builder",
    (
        """CREATE TABLE build_cache (
            parent TEXT NOT NULL, key TEXT NOT NULL, image_id TEXT NOT NULL, PRIMARY KEY (parent, key))""",
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
