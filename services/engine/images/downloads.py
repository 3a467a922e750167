"""Blobs of layers into files: a few at once over all pulls, each repeated where its download was cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reexec.distribution.model import Target
from reexec.helpers.pull import Pulled
from services.engine.images.progress import Progress, short
from services.engine.registry import RegistryClient
from services.engine.registry.manifests import Descriptor
from services.engine.scopes import Background
from services.protocol.errors import InvalidParameter, SystemError_, Unavailable
from services.protocol.settings import Settings

#: Seconds between two looks at the size of a file.
_LOOK = 0.1
#: Seconds that are waited after the first failure; after the second twice that, and so on.
RETRY_DELAY = 5


@dataclass(frozen=True)
class LayerDownload:
    path: Path
    size: int


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
                self._freed.notify()


class Downloads:
    def __init__(
        self, registry: RegistryClient, background: Background, settings: Callable[[], Settings]
    ) -> None:
        self._registry = registry
        self._background = background
        self._settings = settings
        self._slots = Slots(lambda: settings().max_concurrent_downloads)

    def start(
        self, target: Target, layers: Sequence[Descriptor], directory: Path, progress: Progress
    ) -> Batch:
        """Begin the downloads of one image; a blob that is two of its layers comes once."""
        tasks: dict[str, asyncio.Task[LayerDownload]] = {}
        for layer in layers:
            if layer.digest not in tasks:
                path = directory / str(len(tasks))
                work = self._download(target, layer, path, progress)
                tasks[layer.digest] = self._background.spawn(work, name="download", awaited=True)
        return Batch(tasks)

    async def _download(
        self, target: Target, layer: Descriptor, path: Path, progress: Progress
    ) -> LayerDownload:
        name = short(layer.digest)
        if self._slots.full:
            progress.state(name, "Waiting")
        async with self._slots.one():
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                pulled = await self._attempts(target, layer, fd, progress)
            finally:
                os.close(fd)
        progress.state(name, "Verifying Checksum")
        progress.state(name, "Download complete")
        return LayerDownload(path, pulled.size)

    async def _attempts(self, target: Target, layer: Descriptor, fd: int, progress: Progress) -> Pulled:
        failures = 0
        while True:
            try:
                return await self._attempt(target, layer, fd, progress)
            except InvalidParameter as error:
                raise SystemError_(
                    f"filesystem layer verification failed for digest {layer.digest}"
                ) from error
            except Unavailable as error:
                failures += 1
                if failures >= max(1, self._settings().max_download_attempts):
                    raise SystemError_(str(error)) from error
            for left in range(failures * RETRY_DELAY, 0, -1):
                plural = "" if left == 1 else "s"
                progress.state(short(layer.digest), f"Retrying in {left} second{plural}")
                await asyncio.sleep(1)

    async def _attempt(self, target: Target, layer: Descriptor, fd: int, progress: Progress) -> Pulled:
        work = self._registry.blob(target, layer.digest, fd, size=layer.size)
        task = self._background.spawn(work, name="blob", awaited=True)
        seen = -1
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK)
                size = os.fstat(fd).st_size
                if size not in (seen, 0):
                    progress.count(short(layer.digest), "Downloading", size, layer.size)
                    seen = size
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return task.result()


class Batch:
    """The downloads of one image."""

    def __init__(self, tasks: dict[str, asyncio.Task[LayerDownload]]) -> None:
        self._tasks = tasks

    async def get(self, digest: str) -> LayerDownload:
        """The blob of one layer, once it is whole. The first download that fails ends the waiting."""
        task = self._tasks[digest]
        pending = {other for other in self._tasks.values() if not other.done()} | {task}
        while not task.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for other in done:
                other.result()
        return task.result()

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
