"""What the build cache holds, as ``docker system df`` and ``docker builder prune`` show it.

A record is a step (the image it made, with the size of its layer) or a cache mount. A step is *shared*
when an image that somebody has is built on it: one with a name, one that a build was asked for, one that
a container uses, one that was not built. Its bytes are that image's.
"""

from __future__ import annotations

import contextlib

from services.engine.builder.cache import BuildCache
from services.engine.builder.cachemounts import CacheMount, CacheMounts
from services.engine.containers.services import Services
from services.engine.images import ImageManager
from services.engine.images.model import Record, unix_time
from services.engine.images.timestamps import rfc3339
from services.engine.layers import LayerManager
from services.protocol.api.system import BuildCacheRecord
from services.protocol.errors import NotFound

STEP, MOUNT = "regular", "exec.cachemount"
_PREFIX = "sha256:"


class Records:
    def __init__(
        self,
        services: Services,
        images: ImageManager,
        layers: LayerManager,
        cache: BuildCache,
        mounts: CacheMounts,
    ) -> None:
        self._services = services
        self._images = images
        self._layers = layers
        self._cache = cache
        self._mounts = mounts

    async def all(self) -> list[BuildCacheRecord]:
        """The least recently used first, and steps before those that they are built on."""
        kept = self._kept()
        steps = [self._step(record, kept) for record in self._steps()]
        _raise_uses(steps)
        found = list(steps)
        for mount in self._mounts.list():
            with contextlib.suppress(NotFound):  # it has gone meanwhile
                found.append(await self._mount(mount))
        # Stable: a step that was used with what it is built on stays before it.
        return sorted(found, key=last_used)

    async def private(self) -> list[BuildCacheRecord]:
        """Without those whose bytes are counted as an image's: as with dockerd, an image that was built
        is no build cache."""
        return [record for record in await self.all() if not record.shared]

    def _steps(self) -> list[Record]:
        """Children first."""
        found = [self._images.store.by_id(image_id) for image_id in self._cache.images()]
        present = [record for record in found if record is not None]
        depths = {record.id: self._depth(record) for record in present}
        return sorted(present, key=lambda record: depths[record.id], reverse=True)

    def _depth(self, record: Record) -> int:
        depth, current = 0, self._images.store.by_id(record.parent) if record.parent else None
        while current is not None:
            depth, current = depth + 1, self._images.store.by_id(current.parent) if current.parent else None
        return depth

    def _kept(self) -> set[str]:
        """Images that are not cache alone, and all that they are built on."""
        store, cached = self._images.store, self._cache.images()
        used = {entry.definition.image_id for entry in self._services.registry}
        kept: set[str] = set()
        for record in store:
            own = record.id in used or record.id not in cached or self._cache.is_result(record.id)
            if not own and not store.references(record.id):
                continue
            current: Record | None = record
            while current is not None and current.id not in kept:
                kept.add(current.id)
                current = store.by_id(current.parent) if current.parent else None
        return kept

    def _step(self, record: Record, kept: set[str]) -> BuildCacheRecord:
        use = self._cache.use(record.id)
        parent = self._images.store.by_id(record.parent) if record.parent else None
        has_layer = record.chain_id and (parent is None or parent.chain_id != record.chain_id)
        history = record.config.history
        created = record.config.created
        return BuildCacheRecord(
            id=record.id.removeprefix(_PREFIX),
            parents=[record.parent.removeprefix(_PREFIX)] if record.parent else [],
            type=STEP,
            description=history[-1].created_by if history else "",
            in_use=self._cache.in_use(record.id),
            shared=record.id in kept,
            size=self._layers.chains.get(record.chain_id).size if has_layer else 0,
            created_at=created or rfc3339(0),
            last_used_at=rfc3339(use.used) if use.used else None,
            usage_count=use.uses,
        )

    async def _mount(self, mount: CacheMount) -> BuildCacheRecord:
        return BuildCacheRecord(
            id=mount.name,
            parents=[],
            type=MOUNT,
            description=mount.description,
            in_use=self._mounts.in_use(mount.name),
            shared=False,
            size=await self._mounts.size(mount.name),
            created_at=rfc3339(mount.created),
            last_used_at=rfc3339(mount.used) if mount.used else None,
            usage_count=mount.uses,
        )


def last_used(record: BuildCacheRecord) -> float:
    """Unix seconds."""
    return unix_time(record.last_used_at or record.created_at)


def _raise_uses(steps: list[BuildCacheRecord]) -> None:
    """Who uses a step uses what it is built on. *steps* are in order, children first."""
    by_id = {step.id: step for step in steps}
    for step in steps:
        for parent in step.parents:
            if (below := by_id.get(parent)) is not None and last_used(below) < last_used(step):
                below.last_used_at = step.last_used_at or step.created_at
