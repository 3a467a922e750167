"""The build cache: which image a step made of which parent.

An entry is the parent, and a digest of all that went into the step: instruction, configuration before
it, checksums of the files. It lives as long as its image. A step that was made again (``--no-cache``) has
several: the newest is found, and when that image goes the one before it.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from services.engine.images import ImageManager
from services.engine.store import Schema, Store
from services.protocol.api.containers import Config

log = logging.getLogger(__name__)

SCHEMA = Schema(
    "builder",
    (
        """CREATE TABLE build_cache (
            parent TEXT NOT NULL, key TEXT NOT NULL, image_id TEXT NOT NULL, PRIMARY KEY (parent, key))""",
        "CREATE TABLE build_results (image_id TEXT PRIMARY KEY)",
        "CREATE TABLE build_uses (image_id TEXT PRIMARY KEY, used INTEGER NOT NULL, uses INTEGER NOT NULL)",
        """CREATE TABLE build_steps (parent TEXT NOT NULL, key TEXT NOT NULL, image_id TEXT NOT NULL,
            PRIMARY KEY (parent, key, image_id));
        INSERT INTO build_steps SELECT parent, key, image_id FROM build_cache;
        DROP TABLE build_cache;
        ALTER TABLE build_steps RENAME TO build_cache""",
    ),
)
_TABLES = ("build_cache", "build_results", "build_uses")


@dataclass
class Use:
    """When an image was last found in the cache (Unix nanoseconds), and how often."""

    used: int = 0
    uses: int = 0


class BuildCache:
    def __init__(self, store: Store, images: ImageManager) -> None:
        self._store = store
        self._images = images
        #: Images by age: a dictionary's keys stay in their order.
        self._entries: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self._keys: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        for parent, key, image_id in store.load(
            "SELECT parent, key, image_id FROM build_cache ORDER BY rowid"
        ):
            self._insert(parent, key, image_id)
        self._results = {image_id for (image_id,) in store.load("SELECT image_id FROM build_results")}
        self._uses = {
            image_id: Use(used, uses)
            for image_id, used, uses in store.load("SELECT image_id, used, uses FROM build_uses")
        }
        #: Of builds that go on: the images that each has come by.
        self._pins: list[set[str]] = []
        images.store.on_removed.append(self._drop)
        images.store.holders.append(self.in_use)
        # A crash can come between an image and what is said of it.
        for image_id in {*self._keys, *self._results, *self._uses}:
            if image_id not in images.store:
                self._drop(image_id)

    def _insert(self, parent: str, key: str, image_id: str) -> None:
        images = self._entries[parent, key]
        images.pop(image_id, None)
        images[image_id] = None
        self._keys[image_id].add((parent, key))

    @staticmethod
    def key(config: Config, command: Sequence[str]) -> str:
        return hashlib.sha256(msgspec.json.encode([config, list(command)])).hexdigest()

    @contextmanager
    def pins(self) -> Iterator[set[str]]:
        """For one build: what it puts into the set is in use until the end."""
        own: set[str] = set()
        self._pins.append(own)
        try:
            yield own
        finally:
            # By identity: another build may have come by the same images.
            self._pins = [one for one in self._pins if one is not own]

    def in_use(self, image_id: str) -> bool:
        return any(image_id in own for own in self._pins)

    def find(self, parent: str, key: str) -> str | None:
        """Id of the image that this step made last."""
        return next(reversed(self._entries.get((parent, key), {})), None)

    def touch(self, image_ids: Collection[str]) -> None:
        """They were found. Written when there is time: nothing depends on it."""
        now, rows = time.time_ns(), []
        for image_id in image_ids:
            if image_id in self._keys:
                use = self._uses.setdefault(image_id, Use())
                use.used, use.uses = now, use.uses + 1
                rows.append((image_id, use.used, use.uses))

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO build_uses VALUES (?, ?, ?)", rows)

        if rows:
            self._store.submit(write)

    def use(self, image_id: str) -> Use:
        return self._uses.get(image_id) or Use()

    async def remember(self, parent: str, key: str, image_id: str) -> None:
        self._insert(parent, key, image_id)
        await self._store.execute(
            "INSERT OR REPLACE INTO build_cache VALUES (?, ?, ?)", parent, key, image_id
        )

    async def remember_result(self, image_id: str) -> None:
        """What a build was asked for, or one of its stages has made, is no cache: as with dockerd it is an
        image without a name."""
        if image_id not in self._results:
            self._results.add(image_id)
            await self._store.execute("INSERT OR REPLACE INTO build_results VALUES (?)", image_id)

    def is_result(self, image_id: str) -> bool:
        return image_id in self._results

    def images(self) -> set[str]:
        """Ids of the entries' images."""
        return set(self._keys)

    async def forget(self, images: Collection[str]) -> None:
        """The entries of *images*, which stay."""
        for image_id in images:
            self._forget_keys(image_id)

        def delete(connection: sqlite3.Connection) -> None:
            rows = [(image_id,) for image_id in images]
            connection.executemany("DELETE FROM build_cache WHERE image_id = ?", rows)

        await self._store.write(delete)

    def _forget_keys(self, image_id: str) -> None:
        for at in self._keys.pop(image_id, ()):
            del self._entries[at][image_id]
            if not self._entries[at]:
                del self._entries[at]

    def _drop(self, image_id: str) -> None:
        """The image goes, and everything that is said of it."""
        if not (image_id in self._keys or image_id in self._results or image_id in self._uses):
            return
        self._forget_keys(image_id)
        self._results.discard(image_id)
        self._uses.pop(image_id, None)

        def delete(connection: sqlite3.Connection) -> None:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE image_id = ?", (image_id,))

        self._store.submit(delete)
