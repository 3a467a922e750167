"""An image made here from another one and a layer on top of it."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from services.engine.images.archive import host_platform
from services.engine.images.model import History, Record
from services.engine.images.store import ImageStore
from services.engine.images.timestamps import rfc3339
from services.engine.images.views import image_config
from services.engine.layers import Layer
from services.protocol.api.containers import Config

#: Diff id of an archive with nothing in it (two blocks of zeros).
EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


async def commit(
    store: ImageStore,
    parent: Record | None,
    layer: Layer | None,
    config: Config,
    *,
    author: str,
    comment: str,
    created_by: str,
    created: int | None = None,
    pins: set[str] | None = None,
) -> Record:
    """Register the image of *parent*'s layers and *layer*, which the caller holds.

    A layer without content is none: the step is recorded as an empty one. *created* is Unix seconds, now
    if it is not given. *pins* is for :meth:`ImageStore.add`.
    """
    empty = layer is None or layer.diff_id == EMPTY
    made = _when(created)
    step = History(created=made, created_by=created_by, author=author, comment=comment, empty_layer=empty)
    diff_ids = list(parent.config.rootfs.diff_ids) if parent else []
    if layer is not None and not empty:
        diff_ids.append(layer.diff_id)
    platform = host_platform().split("/")
    document: dict[str, Any] = {
        "architecture": parent.config.architecture if parent else platform[1],
        "author": author,
        "comment": comment,
        "config": image_config(config),
        "created": made,
        "history": [*(parent.config.history if parent else []), step],
        "os": parent.config.os if parent else platform[0],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if parent is not None and parent.config.variant:
        document["variant"] = parent.config.variant
    return await store.add(msgspec.json.encode(document), parent=parent.id if parent else "", pins=pins)


async def squash(
    store: ImageStore,
    record: Record,
    base: Record | None,
    layer: Layer,
    *,
    created: int | None,
    pins: set[str],
) -> Record:
    """Register *record* with *layer* (which the caller holds) instead of its layers on *base*.

    The steps stay in its history as empty ones, and a last one tells of the merge (moby ``SquashImage``).
    """
    empty = layer.diff_id == EMPTY
    known = len(base.config.history) if base else 0
    history = list(record.config.history)
    own = [msgspec.structs.replace(step, empty_layer=True) for step in history[known:]]
    comment = f"merge {record.id} to {base.id}" if base else f"create new from {record.id}"
    merge = History(created=_when(created), comment=comment, empty_layer=empty)
    below = list(base.config.rootfs.diff_ids) if base else []
    document = msgspec.json.decode(store.blob(record.id))
    document.update(
        created=_when(created),
        history=[*history[:known], *own, merge],
        rootfs={"type": "layers", "diff_ids": below if empty else [*below, layer.diff_id]},
    )
    return await store.add(msgspec.json.encode(document), parent=base.id if base else "", pins=pins)


def _when(created: int | None) -> str:
    return rfc3339(time.time_ns() if created is None else created * 1_000_000_000)
