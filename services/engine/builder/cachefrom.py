"""``--cache-from``: only what these images were made of counts as cache (moby ``image/cache``).

An image that was built here is known by its parents. One that was pulled or loaded has none: its
history and layers tell, as long as they begin like those of the stage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from services.engine.builder.stage import StageState
from services.engine.images import ImageManager
from services.engine.images.model import Record
from services.engine.layers import LayerManager, chain_ids
from services.protocol.errors import InvalidParameter, NotFound


class CacheSources:
    """Of one build. Names of images that are not here, or of no image, count for nothing, as in dockerd."""

    def __init__(
        self,
        images: ImageManager,
        layers: LayerManager,
        names: Sequence[str],
        newest: int | None,
        pins: set[str],
    ) -> None:
        self._images = images
        self._layers = layers
        self._names = tuple(names)
        self._newest = newest
        self._pins = pins
        self._restricted = bool(names)
        self._sources: list[Record] = []
        for name in names:
            with contextlib.suppress(NotFound, InvalidParameter):
                self._sources.append(images.store.get(name))
        pins.update(source.id for source in self._sources)

    def fresh(self) -> CacheSources:
        """The same for another stage."""
        return CacheSources(self._images, self._layers, self._names, self._newest, self._pins)

    def allow(self, image_id: str) -> bool:
        """Whether the cache's own image may be used: always, unless sources were named."""
        return not self._restricted or any(self._descends(one, image_id) for one in self._sources)

    def _descends(self, source: Record, image_id: str) -> bool:
        current: Record | None = source
        while current is not None:
            if current.id == image_id:
                return True
            current = self._images.store.by_id(current.parent) if current.parent else None
        return False

    async def find(self, state: StageState, created_by: str) -> Record | None:
        """The image of a step that a source has: itself after its last step, else made of its layer."""
        for source in self._sources:
            step = _step(source, state.record, created_by)
            if step is None:
                continue
            # The steps that follow are looked for in the same image: no mixing of two builds.
            self._sources = [source]
            if step == len(source.config.history) - 1:
                if state.record is not None:
                    # So its steps are no images of their own, and go with it.
                    await self._images.store.adopt(source.id, state.record.id)
                return source
            return await self._restore(state, source, step, created_by)
        return None

    async def _restore(self, state: StageState, source: Record, step: int, created_by: str) -> Record:
        layer = None
        if not source.config.history[step].empty_layer:
            count = len(state.record.config.rootfs.diff_ids) if state.record else 0
            layer = self._layers.chains.get(chain_ids(source.config.rootfs.diff_ids)[count])
        # The source holds the layer until the new image does.
        return await self._images.build(
            state.record, layer, state.config,
            author=state.author, created_by=created_by, pins=self._pins, created=self._newest,
        )  # fmt: skip


def _step(source: Record, parent: Record | None, created_by: str) -> int | None:
    """Index in the history of *source* of the step that *created_by* makes on *parent*."""
    history = parent.config.history if parent else []
    diff_ids = parent.config.rootfs.diff_ids if parent else []
    theirs = source.config.history
    count = len(history)
    if len(theirs) <= count or source.config.rootfs.diff_ids[: len(diff_ids)] != diff_ids:
        return None
    before = [(one.created_by, one.empty_layer) for one in history]
    if [(one.created_by, one.empty_layer) for one in theirs[:count]] != before:
        return None
    return count if theirs[count].created_by == created_by else None
