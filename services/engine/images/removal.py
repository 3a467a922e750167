"""``docker rmi`` and ``docker image prune``: names first, then the image, then its parents.

The rules and their texts are moby's ``daemon/images/image_delete.go``: a *hard* conflict (children, a
running container) cannot be forced, a *soft* one (more names, a stopped container) can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.engine.contracts import ContainerUse, ContainerUsers
from services.engine.images.listing import (
    Filters,
    boolean_filter,
    check_filters,
    match_labels,
    until_filter,
)
from services.engine.images.model import GO_ZERO, Record
from services.engine.images.notices import Notices
from services.engine.images.references import Reference, parse
from services.engine.images.store import ImageStore
from services.engine.layers import LayerManager
from services.protocol.api.images import DeleteItem, ImagePruneReply
from services.protocol.errors import Conflict, WharfError

_PRUNE_FILTERS = {"dangling", "label", "label!", "until"}


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


@dataclass(frozen=True)
class _Conflict:
    message: str
    hard: bool
    #: A container is why.
    used: bool


def one_repository(references: Sequence[Reference]) -> bool:
    """At most one tag, and no digest of another repository."""
    if len(references) <= 1:
        return True
    tags = [r for r in references if not r.digest]
    if len(tags) > 1:
        return False
    names = {r.name for r in references if r.digest}
    return len(names) == 1 and (not tags or tags[0].name in names)


class Remover:
    def __init__(
        self, store: ImageStore, layers: LayerManager, notices: Notices, containers: ContainerUsers
    ) -> None:
        self._store = store
        self._layers = layers
        self._notices = notices
        self._containers = containers
        #: Removals read, decide and write in steps: one at a time.
        self._lock = asyncio.Lock()

    async def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> list[DeleteItem]:
        """Raises ``NotFound``, ``InvalidParameter``, ``Conflict``."""
        async with self._lock:
            return await self._remove(ref, force=force, prune=prune)

    async def _remove(self, ref: str, *, force: bool, prune: bool) -> list[DeleteItem]:
        record = self._store.get(ref)
        items: list[DeleteItem] = []
        if self._store.is_id(ref):
            references = self._store.references(record.id)
            if one_repository(references):
                # The image's only name is no obstacle to removing it by id.
                if (conflict := self._conflict(record, soft=not force, names=False)) is not None:
                    raise self._refusal(record, conflict)
                for reference in references:
                    await self._untag(record, reference, items)
            removed_name = False
        else:
            if await self._remove_name(record, ref, items, force=force):
                return items
            removed_name = True
        await self._delete(record, items, force=force, prune=prune, quiet=removed_name)
        return items

    async def _remove_name(self, record: Record, ref: str, items: list[DeleteItem], *, force: bool) -> bool:
        """Take a name away; returns whether others are left."""
        users = self._users(record, mounted=True)
        if users and not force and one_repository(self._store.references(record.id)):
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - container '
                f"{users[0].id[:12]} is using its referenced image {_short(record.id)}"
            )
        given = parse(ref).with_default_tag()
        reference = given.without_tag() if given.digest else given
        await self._untag(record, reference, items, shown=given)
        left = self._store.references(record.id)
        if not reference.digest and not any(r.name == reference.name and not r.digest for r in left):
            # Digests that came with the repository's last tag go with it, and are no event of their own.
            for other in [r for r in left if r.digest and r.name == reference.name]:
                await self._untag(record, other, items, quiet=True)
        return bool(self._store.references(record.id))

    async def _untag(
        self,
        record: Record,
        reference: Reference,
        items: list[DeleteItem],
        *,
        quiet: bool = False,
        shown: Reference | None = None,
    ) -> None:
        """*shown* is the reference as the client wrote it."""
        await self._store.untag(reference, record.id)
        if not quiet:
            self._notices.publish("untag", record)
        items.append(DeleteItem(untagged=(shown or reference).familiar))

    async def _delete(
        self, record: Record, items: list[DeleteItem], *, force: bool, prune: bool, quiet: bool
    ) -> None:
        current: Record | None = record
        while current is not None:
            if (conflict := self._conflict(current, soft=not force)) is not None:
                if quiet and (self._store.references(current.id) or self._store.children(current.id)):
                    return
                if quiet and conflict.used:
                    return
                raise self._refusal(current, conflict)
            for reference in self._store.references(current.id):
                await self._untag(current, reference, items)
            if (chains := await self._store.remove(current.id)) is None:
                continue
            self._notices.publish("delete", current)
            items.append(DeleteItem(deleted=current.id))
            items.extend(DeleteItem(deleted=chain) for chain in chains)
            if not prune or not current.parent:
                return
            # Parents go only where nobody would notice: unnamed, childless, unused.
            current, force, quiet = self._store.by_id(current.parent), False, True

    def _users(self, record: Record, *, mounted: bool = False) -> list[ContainerUse]:
        """Its containers; with *mounted* also those that only mount it, which keep its layers themselves."""
        return [
            use
            for use in self._containers()
            if use.image_id == record.id or (mounted and record.id in use.mounted_images)
        ]

    def _conflict(self, record: Record, *, soft: bool, names: bool = True) -> _Conflict | None:
        if self._store.children(record.id):
            return _Conflict("image has dependent child images", hard=True, used=False)
        users = self._users(record)
        for use in users:
            if use.running:
                text = f"image is being used by running container {use.id[:12]}"
                return _Conflict(text, hard=True, used=True)
        if any(holds(record.id) for holds in self._store.holders):
            return _Conflict("image is being used by a build", hard=True, used=True)
        if not soft:
            return None
        if names and self._store.references(record.id):
            return _Conflict("image is referenced in multiple repositories", hard=False, used=False)
        if users:
            text = f"image is being used by stopped container {users[0].id[:12]}"
            return _Conflict(text, hard=False, used=True)
        return None

    @staticmethod
    def _refusal(record: Record, conflict: _Conflict) -> Conflict:
        how = "cannot be forced" if conflict.hard else "must be forced"
        return Conflict(f"conflict: unable to delete {_short(record.id)} ({how}) - {conflict.message}")

    async def prune(self, filters: Filters) -> ImagePruneReply:
        check_filters(filters, _PRUNE_FILTERS)
        dangling = boolean_filter(filters, "dangling", True)
        until = until_filter(filters)
        sizes = {
            layer.chain_id: layer.size
            for record in self._store
            for layer in self._layers.chains.lineage(record.chain_id)
        }
        deleted: list[DeleteItem] = []
        for record in list(self._store):
            if record.id not in self._store or not self._prunable(record, filters, until, dangling):
                continue
            deleted += await self._prune_one(record, dangling)
        freed = sum(sizes.get(item.deleted, 0) for item in deleted if isinstance(item.deleted, str))
        self._notices.pruned(freed)
        return ImagePruneReply(images_deleted=deleted or None, space_reclaimed=freed)

    def _prunable(self, record: Record, filters: Filters, until: float | None, dangling: bool) -> bool:
        if self._store.children(record.id) and (dangling or not self._store.references(record.id)):
            return False
        if any(holds(record.id) for holds in self._store.holders):
            return False
        # An image without a time is never old enough.
        if until is not None and not (GO_ZERO < record.created <= until):
            return False
        return match_labels(filters, record.labels)

    async def _prune_one(self, record: Record, dangling: bool) -> list[DeleteItem]:
        references = self._store.references(record.id)
        if dangling and any(not r.digest for r in references):
            return []
        deleted: list[DeleteItem] = []
        for ref in [str(r) for r in references] or [record.id]:
            try:
                deleted += await self.remove(ref)
            except WharfError:
                continue  # in use, or gone meanwhile
        return deleted
