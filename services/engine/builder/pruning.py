"""``docker builder prune``: what only the cache has.

The entries of images stay with them, as dockerd's classic builder finds its steps for as long as their
images are there; with ``all`` and a filter that asks for ``shared`` ones they go, and the images stay.

Without sizes everything that is not in use goes. With sizes, as BuildKit has them: the least recently
used goes until what is left is at most ``max_used_space``, or the disk has ``min_free_space``, but never
so much that less than ``reserved_space`` is left.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from services.engine.builder.cache import BuildCache
from services.engine.builder.cachemounts import CacheMounts
from services.engine.builder.records import MOUNT, Records, last_used
from services.engine.images import ImageManager
from services.engine.images.timestamps import parse_time
from services.engine.layers import LayerManager
from services.protocol.api.system import BuildCacheRecord
from services.protocol.errors import InvalidParameter, WharfError
from services.protocol.verbs.builder import PruneArgs, PruneReply

#: Of a record, and whether they are conditions without a text.
_FIELDS = {
    "id": False, "parent": False, "type": False, "description": False,
    "inuse": True, "shared": True, "private": True,
}  # fmt: skip
#: Records have no labels: none has ``label``, all are without (``docker system prune`` passes these on).
_OTHERS = ("until", "unused-for", "label", "label!")
_TRUE, _FALSE = ("", "1", "true"), ("0", "false")


class Pruning:
    def __init__(
        self,
        records: Records,
        images: ImageManager,
        layers: LayerManager,
        cache: BuildCache,
        mounts: CacheMounts,
        data_root: Path,
    ) -> None:
        self._records = records
        self._images = images
        self._layers = layers
        self._cache = cache
        self._mounts = mounts
        self._data_root = data_root

    async def prune(self, args: PruneArgs) -> PruneReply:
        """Raises ``InvalidParameter``."""
        _check(args)
        until = _until(args)
        everything = await self._records.all()
        chosen = [one for one in everything if _chosen(one, args, until)]
        total = sum(one.size for one in everything if not one.shared)
        keep = self._keep(args, total)
        freed, dropped = 0, list[str]()
        for record in chosen:
            if keep is not None and total <= keep:
                break
            gone = await self._remove(record)
            if gone is None and not record.shared:
                continue
            dropped.append(record.id)
            freed += gone or 0
            total -= 0 if record.shared else record.size
        return PruneReply(caches_deleted=dropped or None, space_reclaimed=freed)

    def _keep(self, args: PruneArgs, total: int) -> int | None:
        """Bytes that may stay; None: there is no such limit (BuildKit ``calculateKeepBytes``)."""
        if not (args.reserved_space or args.max_used_space or args.min_free_space):
            return None
        disk = os.statvfs(self._data_root)
        missing = args.min_free_space - disk.f_bavail * disk.f_frsize
        keep = args.max_used_space
        if missing > 0:
            keep = min(keep or total, total - missing)
        elif not keep and not args.reserved_space:
            keep = total  # there is as much free space as was asked for
        return max(keep, args.reserved_space)

    async def _remove(self, record: BuildCacheRecord) -> int | None:
        """Bytes that were freed; None if it is still there. Of a shared step the entry goes."""
        try:
            if record.type == MOUNT:
                await self._mounts.remove(record.id)
                return record.size
            image_id = f"sha256:{record.id}"
            if record.shared:
                await self._cache.forget([image_id])
                return None
            if self._images.store.children(image_id):
                return None
            before = await self._layers.total_size()
            await self._images.remove(image_id, force=False, prune=False)
            return max(0, before - await self._layers.total_size())
        except WharfError:
            return None  # in use since it was looked at


def _check(args: PruneArgs) -> None:
    for name, values in args.filters.items():
        if name not in _FIELDS and name not in _OTHERS:
            raise InvalidParameter(f"invalid filter '{name}'")
        if name in _FIELDS and len(values) > 1:
            raise InvalidParameter("filters expect only one value")
        if _FIELDS.get(name) and _text(values).lower() not in (*_TRUE, *_FALSE):
            raise InvalidParameter(f"invalid filter '{name}={_text(values)}'")


def _text(values: list[str]) -> str:
    return values[0] if values else ""


def _until(args: PruneArgs) -> float | None:
    values = [value for name in ("until", "unused-for") for value in args.filters.get(name, ())]
    if len(values) > 1:
        raise InvalidParameter("filters expect only one value")
    try:
        return parse_time(values[0], time.time()) if values else None
    except ValueError as error:
        raise InvalidParameter(f"invalid value for 'until' filter: {error}") from error


def _chosen(record: BuildCacheRecord, args: PruneArgs, until: float | None) -> bool:
    if record.in_use or args.filters.get("label"):
        return False
    if record.shared and not (args.all and args.filters.get("shared")):
        return False
    if until is not None and last_used(record) > until:
        return False
    return all(
        _matches(record, name, _text(values)) for name, values in args.filters.items() if name in _FIELDS
    )


def _matches(record: BuildCacheRecord, name: str, value: str) -> bool:
    if not _FIELDS[name]:
        if name == "id":
            return record.id.startswith(value.removeprefix("sha256:"))
        if name == "parent":
            return value.removeprefix("sha256:") in record.parents
        return value == (record.type if name == "type" else record.description)
    found = {"inuse": record.in_use, "shared": record.shared, "private": not record.shared}[name]
    return found == (value.lower() in _TRUE)
