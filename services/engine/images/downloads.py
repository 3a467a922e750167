"""Blobs of layers into files: a few at once over all pulls, each repeated where its download was cut off.

Pulls that want the same blob have it downloaded once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from reexec.distribution.model import Target
from reexec.helpers.pull import Pulled
from services.engine.images.progress import Steps, short
from services.engine.images.transferring import Context, Slots, looking
from services.engine.registry.manifests import Descriptor
from services.engine.scopes import Background, shielded
from services.protocol.errors import InvalidParameter, SystemError_

_PREFIX = "pull-"


class Download:
    """A blob, for as long as somebody needs it; a ``services.engine.layers.making.Source``."""

    #: It is verified while it is downloaded.
    digest = ""

    def __init__(self, downloads: Downloads, layer: Descriptor, path: Path, background: Background) -> None:
        self.layer = layer
        self.path = path
        self.steps = Steps(short(layer.digest))
        self.users = 0
        self.task: asyncio.Task[Pulled]
        self._downloads = downloads
        self._background = background

    @property
    def failed(self) -> bool:
        return self.task.done() and not self.task.cancelled() and self.task.exception() is not None

    @property
    def done(self) -> bool:
        """It is all there, and verified."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    @property
    def size(self) -> int:
        """Bytes, once it is ready."""
        return self.task.result().size

    async def ready(self) -> None:
        await asyncio.shield(self.task)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[int]:
        """How far its reader is, is told: it is the offset that it shares with us."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            async with looking(self._background, lambda: self._count(fd)):
                yield fd
        finally:
            os.close(fd)

    def _count(self, fd: int) -> None:
        self.steps.count("Extracting", os.lseek(fd, 0, os.SEEK_CUR), self.size)

    async def leave(self) -> None:
        """The last to do so ends it and removes the file."""
        await shielded(self._downloads.leave(self))


class Downloads:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._slots = Slots(lambda: context.settings().max_concurrent_downloads)
        self._directory = context.data_root / "tmp"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._directory.glob(_PREFIX + "*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        self._running: dict[str, Download] = {}

    def join(self, target: Target, layer: Descriptor) -> Download:
        """The blob of *layer* from *target*, unless somebody has begun to download it already."""
        if (download := self._running.get(layer.digest)) is None:
            path = self._directory / (_PREFIX + secrets.token_hex(8))
            download = Download(self, layer, path, self._context.background)
            work = self._download(target, download)
            download.task = self._context.background.spawn(work, name="download", awaited=True)
            self._running[layer.digest] = download
        download.users += 1
        return download

    async def leave(self, download: Download) -> None:
        download.users -= 1
        if download.users:
            return
        self._forget(download)
        download.task.cancel()
        await asyncio.gather(download.task, return_exceptions=True)
        await asyncio.to_thread(download.path.unlink, missing_ok=True)

    def _forget(self, download: Download) -> None:
        """Unless another one of the same blob has taken its place already."""
        if self._running.get(download.layer.digest) is download:
            del self._running[download.layer.digest]

    async def _download(self, target: Target, download: Download) -> Pulled:
        if self._slots.full:
            download.steps.state("Waiting")
        try:
            async with self._slots.one():
                fd = os.open(download.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    pulled = await self._attempts(target, download, fd)
                finally:
                    os.close(fd)
        except BaseException:
            # Who comes later begins anew.
            self._forget(download)
            raise
        download.steps.state("Verifying Checksum")
        download.steps.state("Download complete")
        return pulled

    async def _attempts(self, target: Target, download: Download, fd: int) -> Pulled:
        layer, seen = download.layer, 0

        def look() -> None:
            nonlocal seen
            if (size := os.fstat(fd).st_size) != seen:
                download.steps.count("Downloading", size, layer.size)
                seen = size

        async def attempt() -> Pulled:
            blob = self._context.registry.blob(target, layer.digest, fd, size=layer.size)
            return await self._context.watched(blob, look)

        try:
            return await self._context.repeated(attempt, download.steps.state)
        except InvalidParameter as error:
            raise SystemError_(f"filesystem layer verification failed for digest {layer.digest}") from error


__all__ = ["Download", "Downloads"]
