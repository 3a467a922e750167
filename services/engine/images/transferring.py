"""What pulls and pushes share: what they work with, slots, repeated attempts, looking on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from services.engine.events import Events
from services.engine.images.layerblobs import LayerBlobs
from services.engine.images.store import ImageStore
from services.engine.layers import LayerManager
from services.engine.registry import RegistryClient
from services.engine.scopes import Background
from services.protocol.errors import SystemError_, Unavailable
from services.protocol.settings import Settings

T = TypeVar("T")

#: Seconds that are waited after the first failure; after the second twice that, and so on.
RETRY_DELAY = 5
#: Seconds between two looks at how far something is.
_LOOK = 0.1


@dataclass(frozen=True)
class Context:
    """``settings`` is read at each use: some can be reloaded."""

    store: ImageStore
    layers: LayerManager
    blobs: LayerBlobs
    events: Events
    registry: RegistryClient
    background: Background
    data_root: Path
    settings: Callable[[], Settings]

    async def repeated(self, work: Callable[[], Coroutine[Any, Any, T]], say: Callable[[str], None]) -> T:
        """What *work* returns, as often as ``max-download-attempts`` allows where another attempt may help.

        *say* is told how long the next one is away. Raises the last failure as ``SystemError_``.
        """
        failures = 0
        while True:
            try:
                return await work()
            except Unavailable as error:
                failures += 1
                if failures >= max(1, self.settings().max_download_attempts):
                    raise SystemError_(str(error)) from error
            for left in range(failures * RETRY_DELAY, 0, -1):
                say(f"Retrying in {left} second{'' if left == 1 else 's'}")
                await asyncio.sleep(1)

    async def watched(self, work: Coroutine[Any, Any, T], look: Callable[[], None]) -> T:
        """What *work* returns; meanwhile *look* is called from time to time, and at the end."""
        async with looking(self.background, look):
            return await work


@contextlib.asynccontextmanager
async def looking(background: Background, look: Callable[[], None]) -> AsyncIterator[None]:
    """Call *look* from time to time, and at the end."""

    async def run() -> None:
        while True:
            look()
            await asyncio.sleep(_LOOK)

    task = background.spawn(run(), name="look", awaited=True)
    try:
        yield
        look()
    finally:
        task.cancel()


class Slots:
    """At most so many at once; the limit may change meanwhile."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._used = 0
        self._freed = asyncio.Condition()

    @property
    def full(self) -> bool:
        return self._used >= max(1, self._limit())

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        async with self._freed:
            await self._freed.wait_for(lambda: not self.full)
            self._used += 1
        try:
            yield
        finally:
            self._used -= 1
            async with self._freed:
                # All of them: one that is cancelled just now would take the only notice along.
                self._freed.notify_all()
