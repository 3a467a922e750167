"""``--squash``: the layers of a build as one layer on the base image (moby ``SquashImage``).

The image as it was built stays, for it is the cache.
"""

from __future__ import annotations

import os

from reexec.archive.rootfs import RootSpec
from reexec.helpers.changes import Changes
from services.engine.builder import context
from services.engine.builder.tools import Tools
from services.engine.images.model import Record


async def squash(tools: Tools, record: Record, base: Record | None) -> Record:
    """An image like *record* with one layer on *base*; *record* itself if nothing was added."""
    if base is not None and base.chain_id == record.chain_id:
        return record
    async with context.scratch(tools.tmp) as empty:
        # Nothing is made inside the root that is compared with, so an empty directory will do.
        below = tools.layers.image_root(base.chain_id) if base and base.chain_id else _empty(str(empty))
        os.chmod(empty, 0o755)
        changes = Changes(
            below, "", whole=True, tree=tools.layers.image_root(record.chain_id), newest=tools.newest
        )
        layer = await tools.layers.difference(base.chain_id if base else "", changes)
    try:
        return await tools.images.squash(record, base, layer, created=tools.newest, pins=tools.pins)
    finally:
        await tools.layers.release(layer.chain_id)


def _empty(directory: str) -> RootSpec:
    return RootSpec(directory=directory)
