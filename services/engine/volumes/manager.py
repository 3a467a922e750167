"""Volumes of the local driver: directories ``<data-root>/volumes/<name>/_data``.

A volume with mount options (``type``, ``device``, ``o``) is mounted on its directory while containers use
it. Who uses it is counted by container and known again after a restart: running containers' volumes
are mounted anew by the restore, and :meth:`VolumeManager.sweep` takes down what nobody claimed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from reexec.archive import syscalls
from reexec.archive.extract import tree_size
from reexec.helpers.remove import remove
from services.engine.contracts import ContainerUsers
from services.engine.events import Events
from services.engine.scopes import KeyedLocks, settled
from services.engine.store import Schema, Store
from services.engine.volumes import filters, options
from services.engine.volumes.mounted import is_mounted, mounts_below
from services.protocol.api.volumes import Volume, VolumeList, VolumePruneReply, VolumeUsage
from services.protocol.errors import Conflict, NotFound, SystemError_, WharfError

log = logging.getLogger(__name__)

SCHEMA = Schema(
    "volumes",
    (
        """CREATE TABLE volumes (
            name TEXT PRIMARY KEY, labels BLOB NOT NULL, options BLOB NOT NULL, created INTEGER NOT NULL)""",
    ),
)

DRIVER = "local"
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
_REMOVED = ".removed-"

_encode = msgspec.json.encode


@dataclass(frozen=True)
class _Record:
    """``created`` is Unix seconds; ``labels`` and ``options`` are None when none were given."""

    name: str
    labels: dict[str, str] | None
    options: dict[str, str] | None
    created: int


class VolumeManager:
    """Implements ``services.engine.contracts.VolumeService``."""

    def __init__(self, store: Store, events: Events, data_root: Path, containers: ContainerUsers) -> None:
        self._store = store
        self._events = events
        self._root = data_root / "volumes"
        self._containers = containers
        self._locks = KeyedLocks()
        self._users: defaultdict[str, set[str]] = defaultdict(set)
        self._root.mkdir(mode=0o701, exist_ok=True)
        self._records: dict[str, _Record] = {}
        for name, labels, opts, created in store.load("SELECT name, labels, options, created FROM volumes"):
            kind = dict[str, str] | None
            record = _Record(
                name, msgspec.json.decode(labels, type=kind), msgspec.json.decode(opts, type=kind), created
            )
            self._records[name] = record
        self._sweep_directories()
        for name in self._records:
            try:
                self._make_directory(name)
            except SystemError_ as error:
                log.error("volume %s cannot be used: %s", name, error)

    def _sweep_directories(self) -> None:
        """Take back or finish removals, and forget creations that were interrupted before anything was in
        them.
        """
        for entry in list(self._root.iterdir()):
            if entry.name.startswith(_REMOVED):
                if not self._take_back(entry):
                    _delete(str(entry))
            elif entry.name not in self._records:
                with contextlib.suppress(OSError):  # something is in it
                    with contextlib.suppress(FileNotFoundError):  # interrupted even before that
                        (entry / "_data").rmdir()
                    entry.rmdir()

    def _take_back(self, doomed: Path) -> bool:
        """Whether *doomed* was a volume whose removal was cut off before its record was deleted."""
        _, _, digest = doomed.name.removeprefix(_REMOVED).partition("-")
        name = next((one for one in self._records if _digest(one) == digest), None)
        if name is None or (self._root / name).exists():
            return False
        os.rename(doomed, self._root / name)
        return True

    def _data(self, name: str) -> Path:
        return self._root / name / "_data"

    def _make_directory(self, name: str) -> None:
        home = self._root / name
        try:
            home.mkdir(mode=0o701, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise SystemError_(
                f"create {name}: error while creating volume root path '{home}': mkdir {home}: {reason}"
            ) from error
        data = home / "_data"
        if not data.exists():
            data.mkdir()
            data.chmod(0o755)

    def _view(self, record: _Record) -> Volume:
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        return Volume(
            created_at=created,
            driver=DRIVER,
            labels=record.labels,
            mountpoint=str(self._data(record.name)),
            name=record.name,
            options=record.options,
        )

    async def create(
        self,
        name: str,
        driver: str,
        options_: Mapping[str, str],
        labels: Mapping[str, str] | None,
        *,
        on_name: Callable[[str], None] | None = None,
        request_id: str = "",
    ) -> Volume:
        """Without a *name* it gets one, the same for the same request that comes again."""
        if driver not in ("", DRIVER):
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
            )
        own_labels = dict(labels) if labels is not None else None
        if not name:
            name = hashlib.sha256(request_id.encode()).hexdigest() if request_id else secrets.token_hex(32)
            own_labels = {**(own_labels or {}), ANONYMOUS_LABEL: ""}
            if on_name is not None:
                on_name(name)
        options.check_name(name)
        async with self._locks.hold(name):
            if (existing := self._records.get(name)) is not None:
                return self._view(existing)
            options.check_options(name, options_)
            record = _Record(name, own_labels, dict(options_) or None, int(time.time()))
            self._make_directory(name)
            await self._store.execute(
                "INSERT INTO volumes VALUES (?, ?, ?, ?)",
                name,
                _encode(record.labels),
                _encode(record.options),
                record.created,
            )
            self._records[name] = record
        self._events.publish("volume", "create", name, {"driver": DRIVER})
        return self._view(record)

    def get(self, name: str) -> Volume:
        return self._view(self._record(name))

    def _record(self, name: str) -> _Record:
        try:
            return self._records[name]
        except KeyError:
            raise NotFound(f"get {name}: no such volume") from None

    def is_anonymous(self, name: str) -> bool:
        record = self._records.get(name)
        return record is not None and ANONYMOUS_LABEL in (record.labels or {})

    async def mount(self, name: str, container_id: str, told: Mapping[str, str] | None = None) -> str:
        async with self._locks.hold(name):
            record, path = self._record(name), str(self._data(name))
            wanted = options.resolvable(record.options)
            if wanted and not await asyncio.to_thread(is_mounted, path):
                try:
                    # A caller that is cancelled is a user until it unmounts.
                    await settled(asyncio.to_thread(options.mount, wanted, path))
                except SystemError_ as error:
                    raise SystemError_(f"error while mounting volume '{path}': {error}") from error
            self._users[name].add(container_id)
        if told is not None:
            attributes = {**told, "container": container_id, "driver": DRIVER}
            self._events.publish("volume", "mount", name, attributes)
        return path

    async def unmount(self, name: str, container_id: str, *, told: bool = False) -> None:
        async with self._locks.hold(name):
            users = self._users.get(name, set())
            if container_id not in users:
                return
            users.discard(container_id)
            if not users:
                del self._users[name]
                await self._take_down(name)
        if told:
            self._events.publish("volume", "unmount", name, {"container": container_id, "driver": DRIVER})

    async def _take_down(self, name: str) -> None:
        record, path = self._records.get(name), str(self._data(name))
        if record is not None and record.options:
            try:
                # To its end although the caller is cancelled: nobody uses it any more.
                await settled(asyncio.to_thread(_unmount, path))
            except OSError as error:
                log.error("volume %s is still mounted: %s", name, error)

    async def sweep(self) -> None:
        """Unmount volumes that no container has claimed since the start (after the restore)."""
        for name in list(self._records):
            async with self._locks.hold(name):
                if not self._users.get(name):
                    await self._take_down(name)

    def _used_by(self, name: str) -> list[str]:
        return [use.id for use in self._containers() if name in use.volumes]

    async def remove(self, name: str, *, force: bool = False) -> None:
        async with self._locks.hold(name):
            if name not in self._records:
                if force:
                    return
                self._record(name)
            if users := self._used_by(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            await self._take_down(name)
            if await asyncio.to_thread(mounts_below, str(self._root / name)):
                # What is mounted there is not the volume's to delete.
                raise SystemError_(f"remove {name}: device or resource busy")
            # The name goes first: what is left after a crash is a directory nobody mistakes for a volume.
            # It tells the volume's: until the record is deleted the next start takes it back.
            doomed = self._root / f"{_REMOVED}{secrets.token_hex(4)}-{_digest(name)}"
            try:
                os.rename(self._root / name, doomed)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise SystemError_(f"remove {name}: {error.strerror}") from error
            try:
                await self._store.execute("DELETE FROM volumes WHERE name=?", name)
            except Exception:
                with contextlib.suppress(OSError):
                    os.rename(doomed, self._root / name)
                raise
            del self._records[name]
        await settled(asyncio.to_thread(_delete, str(doomed)))
        self._events.publish("volume", "destroy", name, {"driver": DRIVER})

    def select(self, wanted: filters.Filters) -> VolumeList:
        used = {name for use in self._containers() for name in use.volumes}
        selects = filters.list_selector(wanted, used)
        found = [self._view(self._records[name]) for name in sorted(self._records)]
        return VolumeList(volumes=[volume for volume in found if selects(volume)])

    async def prune(self, wanted: filters.Filters) -> VolumePruneReply:
        """Volumes without containers: anonymous ones, all with ``all=true``."""
        selects = filters.prune_selector(wanted)
        used = {name for use in self._containers() for name in use.volumes}
        deleted: list[str] = []
        freed = 0
        for name in sorted(self._records):
            if name in used or name not in self._records or not selects(self.get(name)):
                continue
            size = await asyncio.to_thread(tree_size, str(self._data(name)))
            try:
                await self.remove(name)
            except (Conflict, NotFound):  # used, or removed, meanwhile
                continue
            deleted.append(name)
            freed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return VolumePruneReply(volumes_deleted=deleted, space_reclaimed=freed)

    async def usage(self) -> list[Volume]:
        found = []
        for name in sorted(self._records):
            if name not in self._records:  # removed meanwhile
                continue
            volume = self.get(name)
            size = await asyncio.to_thread(tree_size, str(self._data(name)))
            volume.usage_data = VolumeUsage(size=size, ref_count=len(self._used_by(name)))
            found.append(volume)
        return found


def _digest(name: str) -> str:
    """A name of a fixed length for one that may be as long as names can be."""
    return hashlib.sha256(name.encode()).hexdigest()


def _unmount(path: str) -> None:
    """As often as something is mounted there. Raises ``OSError``."""
    while is_mounted(path):
        syscalls.umount(path, syscalls.MNT_DETACH)


def _delete(directory: str) -> None:
    """Unless something is mounted in it: its files are somebody else's."""
    if mounts_below(directory):
        log.error("%s is not deleted: something is mounted in it", directory)
        return
    with contextlib.suppress(WharfError):  # what cannot go is left to the next start
        remove(directory)


__all__ = ["ANONYMOUS_LABEL", "SCHEMA", "VolumeManager"]
