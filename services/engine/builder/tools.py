"""What the steps of a stage work with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.engine.builder.ahead import Ahead
from services.engine.builder.arguments import Arguments
from services.engine.builder.bases import Bases
from services.engine.builder.cache import BuildCache
from services.engine.builder.cachefrom import CacheSources
from services.engine.builder.cachemounts import CacheMounts
from services.engine.builder.graph import ContextUses
from services.engine.builder.output import Speech
from services.engine.builder.running import Removals
from services.engine.builder.stage import StageState
from services.engine.containers.services import Services
from services.engine.helpers import Helpers
from services.engine.images import ImageManager
from services.engine.layers import LayerManager
from services.protocol.verbs.builder import BuildArgs


class Stages(Protocol):
    """The other stages of the build."""

    async def find(self, name: str, before: int, *, by_number: bool) -> StageState | None:
        """The stage before number *before* called *name*, once it is built; None if there is none."""


@dataclass
class Tools:
    """What every step of a stage works with; only ``slots`` and what the stages share are the build's."""

    services: Services
    images: ImageManager
    layers: LayerManager
    helpers: Helpers
    cache: BuildCache
    #: Images that the build has come by: they stay until its end.
    pins: set[str]
    cache_sources: CacheSources
    args: BuildArgs
    #: Of the stage.
    output: Speech
    arguments: Arguments
    escape: str
    #: The unpacked context, and where downloads may be put meanwhile.
    context: Path
    tmp: Path
    bases: Bases
    caches: CacheMounts
    #: Of the context's archive (:func:`services.engine.builder.context.unpack`).
    owners: str | None
    #: RUN and COPY at work at the same time.
    slots: asyncio.Semaphore
    #: Unix seconds that no time in the image is to be after.
    newest: int | None
    uses: ContextUses
    stages: Stages | None = None
    ahead: Ahead | None = None
    removals: Removals | None = None
    stage_index: int = 0
