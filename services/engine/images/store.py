"""All images and their names: in memory, written to the database and the blob directory first."""

from __future__ import annotations

import asyncio
import bisect
import hashlib
import logging
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from services.engine.images.blobs import Blobs
from services.engine.images.model import Record, container_config, parse_config, unix_time
from services.engine.images.references import Reference, is_digest, is_identifier, parse
from services.engine.layers import LayerManager, chain_ids
from services.engine.scopes import KeyedLocks, checkpoint, settled
from services.engine.store import Store
from services.protocol.errors import InvalidParameter, NotFound, WharfError

log = logging.getLogger(__name__)


class ImageStore:
    """``names`` maps a reference with a tag or a digest (not both) to an image id."""

    def __init__(self, store: Store, layers: LayerManager, data_root: Path) -> None:
        self._store = store
        self._layers = layers
        base = data_root / "image" / layers.driver_name
        self._blobs = Blobs(base / "imagedb" / "content")
        self._records: dict[str, Record] = {}
        self._ids: list[str] = []
        self._names: dict[Reference, str] = {}
        self._by_image: defaultdict[str, set[Reference]] = defaultdict(set)
        self._children: defaultdict[str, set[str]] = defaultdict(set)
        self._locks = KeyedLocks()
        #: Told the id of an image that goes, before it is gone from the database.
        self.on_removed: list[Callable[[str], None]] = []
        #: Asked whether an image is at work with, so that nobody tidies it up.
        self.holders: list[Callable[[str], bool]] = []
        self._load()

    def _load(self) -> None:
        for image_id, parent, last_tagged in self._store.load("SELECT id, parent, last_tagged FROM images"):
            try:
                record = self._record(image_id, self._blobs.read(image_id), parent, last_tagged)
                self._layers.chains.retain(record.chain_id)
            except WharfError as error:
                log.error("image %s is not usable: %s", image_id, error)
                continue
            self._insert(record)
        for name, image_id in self._store.load("SELECT name, image_id FROM image_names"):
            if image_id in self._records:
                self._name(parse(name), image_id)
        self._blobs.sweep({row[0] for row in self._store.load("SELECT id FROM images")})

    @staticmethod
    def _record(image_id: str, blob: bytes, parent: str, last_tagged: int) -> Record:
        config = parse_config(blob)
        chains = chain_ids(config.rootfs.diff_ids)
        return Record(
            id=image_id,
            parent=parent,
            last_tagged=last_tagged,
            config=config,
            container_config=container_config(config),
            chain_id=chains[-1] if chains else "",
            created=unix_time(config.created),
        )

    def _insert(self, record: Record) -> None:
        self._records[record.id] = record
        bisect.insort(self._ids, record.id.removeprefix("sha256:"))
        if record.parent:
            self._children[record.parent].add(record.id)

    def _name(self, reference: Reference, image_id: str) -> None:
        if (before := self._names.get(reference)) is not None:
            self._by_image[before].discard(reference)
        self._names[reference] = image_id
        self._by_image[image_id].add(reference)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._records

    def by_id(self, image_id: str) -> Record | None:
        return self._records.get(image_id)

    def existing(self, image_id: str) -> Record:
        """Raises ``NotFound`` as dockerd's store does, which looks for the file."""
        if (record := self._records.get(image_id)) is None:
            path = self._blobs.path(image_id)
            raise NotFound(f"failed to get digest {image_id}: open {path}: no such file or directory")
        return record

    def blob(self, image_id: str) -> bytes:
        """The configuration as it was given. Raises :class:`SystemError_` when it is damaged."""
        return self._blobs.read(image_id)

    def children(self, image_id: str) -> set[str]:
        return set(self._children.get(image_id, ()))

    def references(self, image_id: str) -> list[Reference]:
        """Names of an image, sorted as Docker lists them."""
        return sorted(self._by_image.get(image_id, ()), key=str)

    def named(self, reference: Reference) -> str | None:
        """Id of the image called *reference*; a digest counts, a tag beside it does not."""
        key = reference.without_tag() if reference.digest else reference.with_default_tag()
        return self._names.get(key)

    def get(self, text: str) -> Record:
        """By name, tag, digest, id or id prefix. Raises ``NotFound`` or ``InvalidParameter``."""
        if is_identifier(text) or is_digest(text):
            image_id = text if is_digest(text) else f"sha256:{text}"
            if (record := self._records.get(image_id)) is None:
                raise NotFound(f"No such image: {image_id}")
            return record
        reference = parse(text)
        if (found := self.named(reference) or self._search(text)) is not None:
            return self._records[found]
        raise NotFound(f"No such image: {reference.with_default_tag().familiar}")

    def get_by_id(self, text: str) -> Record:
        """By id or id prefix. Raises ``NotFound``."""
        if (found := self._search(text)) is None:
            raise NotFound(f"No such image: {text}")
        return self._records[found]

    def is_id(self, text: str) -> bool:
        """*text* names an image by its id or a prefix of it (and is no image's name)."""
        if is_identifier(text) or is_digest(text):
            return True
        try:
            if self.named(parse(text)) is not None:
                return False
        except InvalidParameter:
            pass
        return self._search(text) is not None

    def _search(self, text: str) -> str | None:
        prefix = text.removeprefix("sha256:")
        if not prefix or not all(char in "0123456789abcdef" for char in prefix):
            return None
        at = bisect.bisect_left(self._ids, prefix)
        matches = self._ids[at : at + 2]
        if not matches or not matches[0].startswith(prefix):
            return None
        if len(matches) > 1 and matches[1].startswith(prefix):
            return None  # ambiguous: as in dockerd, no image
        return f"sha256:{matches[0]}"

    async def add(self, blob: bytes, *, parent: str = "", pins: set[str] | None = None) -> Record:
        """Register the image whose configuration is *blob*; the same one again is that one.

        Its layers are registered and held by the caller; the image holds them from now on as well. Its
        id is put into *pins* before anybody can see the image, and remove it.
        """
        image_id = "sha256:" + hashlib.sha256(blob).hexdigest()
        if pins is not None:
            pins.add(image_id)
        async with self._locks.hold(image_id):
            if (record := self._records.get(image_id)) is not None:
                return record
            record = self._record(image_id, blob, parent, 0)
            await settled(asyncio.to_thread(self._blobs.write, blob))
            try:
                checkpoint()
            except asyncio.CancelledError:
                self._blobs.remove(image_id)
                raise
            if record.parent not in self._records:
                record.parent = ""  # it has been removed meanwhile, by force
            self._layers.chains.retain(record.chain_id)
            self._insert(record)
            await self._store.execute("INSERT INTO images VALUES (?, ?, 0)", image_id, record.parent)
        return record

    async def tag(self, reference: Reference, image_id: str) -> None:
        """Give an image a name, which another image may lose. Raises ``NotFound``: it has been removed.

        Nobody sees the name before it is in the database, and the image stays until then.
        """
        now = time.time_ns()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO image_names VALUES (?, ?) "
                "ON CONFLICT(name) DO UPDATE SET image_id=excluded.image_id",
                (str(reference), image_id),
            )
            connection.execute("UPDATE images SET last_tagged=? WHERE id=?", (now, image_id))

        async with self._locks.hold(str(reference)), self._locks.hold(image_id):
            if (record := self._records.get(image_id)) is None:
                raise NotFound(f"No such image: {image_id}")
            await self._store.write(write)
            self._name(reference, image_id)
            record.last_tagged = now

    async def adopt(self, image_id: str, parent: str) -> None:
        """Make an image the child of one with less history, so that nobody waits for two in a circle.

        Raises ``NotFound``.
        """
        async with self._locks.hold(image_id), self._locks.hold(parent):
            record = self.existing(image_id)
            if record.parent == self.existing(parent).id:
                return
            await self._store.execute("UPDATE images SET parent=? WHERE id=?", parent, image_id)
            self._children[record.parent].discard(image_id)
            record.parent = parent
            self._children[parent].add(image_id)

    async def untag(self, reference: Reference, image_id: str) -> None:
        """Take a name from an image, if it has it still."""
        async with self._locks.hold(str(reference)):
            if self._names.get(reference) == image_id:
                await self._store.execute("DELETE FROM image_names WHERE name=?", str(reference))
                del self._names[reference]
                self._by_image[image_id].discard(reference)

    async def remove(self, image_id: str) -> list[str] | None:
        """Forget an image without names and children; returns the chain ids that went with it.

        None when somebody has added or named the image, or has made it a parent, since that was looked
        at, or does so now: whether it may go is to be asked again.
        """
        busy = self._locks.busy(image_id)
        async with self._locks.hold(image_id):
            if busy or self._by_image.get(image_id) or self._children.get(image_id):
                return None
            record = self._records.pop(image_id)
            self._by_image.pop(image_id, None)
            self._children.pop(image_id, None)
            self._children[record.parent].discard(image_id)
            del self._ids[bisect.bisect_left(self._ids, image_id.removeprefix("sha256:"))]
            for tell in self.on_removed:
                tell(image_id)
            await self._store.execute("DELETE FROM images WHERE id=?", image_id)
            await settled(asyncio.to_thread(self._blobs.remove, image_id))
        return [layer.chain_id for layer in await self._layers.release(record.chain_id)]
