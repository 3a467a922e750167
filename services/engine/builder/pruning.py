"""``docker builder prune``: dead ends of the cache, and with ``all`` the cache itself.

The cache is entries (which image a step made of which) and the images they name. What a build was
asked for, what has a name, what a container uses or another image is built on is no cache and stays.
"""

from __future__ import annotations

import time

from services.engine.builder.cache import BuildCache
from services.engine.containers.services import Services
from services.engine.images import ImageManager
from services.engine.images.model import Record
from services.engine.images.timestamps import parse_time
from services.engine.layers import LayerManager
from services.protocol.errors import InvalidParameter, Unimplemented, WharfError
from services.protocol.verbs.builder import PruneArgs, PruneReply

#: Entries have no labels: none has ``label``, all are without (``docker system prune`` passes these on).
_FILTERS = ("id", "until", "unused-for", "label", "label!")


async def prune(
    services: Services, images: ImageManager, layers: LayerManager, cache: BuildCache, args: PruneArgs
) -> PruneReply:
    """Raises ``InvalidParameter`` for an unknown filter, ``Unimplemented`` for a size to keep."""
    _check(args)
    before = await layers.total_size()
    until = _until(args)
    chosen = [image for image in cache.images() if _chosen(images.store.by_id(image), image, args, until)]
    # Of images that are gone nothing can be told; their entries just go.
    absent = [image for image in chosen if images.store.by_id(image) is None]
    dropped: list[str] = []
    for image in _youngest_first(images, [image for image in chosen if image not in absent]):
        gone = _is_dead_end(services, images, cache, image) and await _removed(images, image)
        if gone or args.all:
            dropped.append(image)
    await cache.forget([*absent, *dropped])
    freed = before - await layers.total_size()
    ids = [image.removeprefix("sha256:") for image in dropped]
    return PruneReply(caches_deleted=ids or None, space_reclaimed=max(0, freed))


def _check(args: PruneArgs) -> None:
    if args.keep_storage:
        raise Unimplemented("keeping an amount of build cache is not implemented")
    for name in args.filters:
        if name not in _FILTERS:
            raise InvalidParameter(f"invalid filter '{name}'")


def _until(args: PruneArgs) -> float | None:
    values = [value for name in ("until", "unused-for") for value in args.filters.get(name, ())]
    if len(values) > 1:
        raise InvalidParameter("filters expect only one value")
    try:
        return parse_time(values[0], time.time()) if values else None
    except ValueError as error:
        raise InvalidParameter(f"invalid value for 'until' filter: {error}") from error


def _chosen(record: Record | None, image: str, args: PruneArgs, until: float | None) -> bool:
    if args.filters.get("label"):
        return False
    ids = args.filters.get("id", ())
    if ids and not any(image.removeprefix("sha256:").startswith(one) for one in ids):
        return False
    return record is None or until is None or record.created <= until


def _youngest_first(images: ImageManager, chosen: list[str]) -> list[str]:
    """Children are younger than their parents: so a dead end is taken from its tip."""

    def created(image: str) -> float:
        record = images.store.by_id(image)
        return record.created if record else 0

    return sorted(chosen, key=created, reverse=True)


def _is_dead_end(services: Services, images: ImageManager, cache: BuildCache, image: str) -> bool:
    if cache.is_result(image) or images.store.references(image) or images.store.children(image):
        return False
    return not any(entry.definition.image_id == image for entry in services.registry)


async def _removed(images: ImageManager, image: str) -> bool:
    try:
        await images.remove(image, force=False, prune=False)
    except WharfError:
        return False  # in use since it was looked at
    return True
