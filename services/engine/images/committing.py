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
) -> Record:
    """Register the image of *parent*'s layers and *layer*, which the caller holds.

    A layer without content is none: the step is recorded as an empty one.
    """
    empty = layer is None or layer.diff_id == EMPTY
    created = rfc3339(time.time_ns())
    step = History(created=created, created_by=created_by, author=author, comment=comment, empty_layer=empty)
    diff_ids = list(parent.config.rootfs.diff_ids) if parent else []
    if layer is not None and not empty:
        diff_ids.append(layer.diff_id)
    platform = host_platform().split("/")
    document: dict[str, Any] = {
        "architecture": parent.config.architecture if parent else platform[1],
        "author": author,
        "comment": comment,
        "config": image_config(config),
        "created": created,
        "history": [*(parent.config.history if parent else []), step],
        "os": parent.config.os if parent else platform[0],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    if parent is not None and parent.config.variant:
        document["variant"] = parent.config.variant
    return await store.add(msgspec.json.encode(document), parent=parent.id if parent else "")
