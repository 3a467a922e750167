"""``docker load`` and ``docker import``: an archive becomes layers and images.

The archive's bytes go from the client's descriptor to helpers; the engine sees names and digests. An
image is registered when all of its layers are; layers that no image came to use are released, or, after
a crash, found unused at start-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import msgspec

from reexec.helpers.download import Download, Downloaded
from reexec.helpers.load import Loaded
from services.engine.helpers import Helpers, ask, document
from services.engine.images.archive import Archive, ArchivedImage, LayerFile
from services.engine.images.changes import apply_changes
from services.engine.images.notices import Notices
from services.engine.images.references import parse_repository
from services.engine.images.scratch import Scratch
from services.engine.images.store import ImageStore
from services.engine.images.timestamps import rfc3339
from services.engine.images.views import image_config
from services.engine.layers import LayerManager, Making, chain_ids
from services.engine.registry import platforms
from services.protocol.api.containers import Config
from services.protocol.errors import InvalidParameter, SystemError_, WharfError
from services.protocol.jsonlines import error_line, line
from services.protocol.verbs.images import ImportArgs


def web_address(source: str) -> str:
    """What ``fromSrc`` means; raises ``SystemError_`` in the words of Go's HTTP client."""
    url = source if "://" in source else f"http://{source}"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise SystemError_(f'Get "{url}": unsupported protocol scheme "{parts.scheme}"')
    if not parts.netloc:
        shown = url if parts.path else url.removesuffix("//")
        raise SystemError_(f'Get "{shown}": http: no Host in request URL')
    return url


class _File:
    """A layer of an archive that has been taken apart; a ``services.engine.layers.making.Source``.

    It is opened here: other loads may wait for what is made of it when its own has been cancelled.
    """

    def __init__(self, layer: LayerFile) -> None:
        self.digest = layer.digest
        self._fd = os.open(layer.path, os.O_RDONLY | os.O_CLOEXEC)

    async def ready(self) -> None:
        """It was before."""

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[int]:
        yield self._fd

    async def leave(self) -> None:
        os.close(self._fd)


class Loader:
    def __init__(
        self, store: ImageStore, layers: LayerManager, helpers: Helpers, notices: Notices, data_root: Path
    ) -> None:
        self._store = store
        self._layers = layers
        self._helpers = helpers
        self._notices = notices
        self._scratch = Scratch(data_root, "load-")

    async def load(self, fd: int, *, quiet: bool, platform: str) -> AsyncGenerator[bytes, None]:
        """Progress of a load. What fails is the stream's last document, as in dockerd."""
        try:
            async with self._scratch.directory() as directory:
                images = await self._take_apart(directory, fd, platform)
                loaded: list[tuple[str, ArchivedImage]] = []
                while (image := await asyncio.to_thread(next, images, None)) is not None:
                    work = self._load_image(image, quiet, loaded)
                    async with aclosing(work) as items:
                        async for item in items:
                            yield item
                await self._adopt(loaded)
                # By id only where the last one has no name, as in dockerd, which says nothing of nothing.
                if not loaded:
                    yield line()
                elif not loaded[-1][1].names:
                    yield line(stream="".join(f"Loaded image ID: {image_id}\n" for image_id, _ in loaded))
        except WharfError as error:
            yield error_line(str(error))

    async def _adopt(self, loaded: list[tuple[str, ArchivedImage]]) -> None:
        """Restore lineage among the images of one archive.

        Without history there is nothing to show it by, and no telling who came first.
        """
        for image_id, image in loaded:
            if image.parent == image_id or image.parent not in {other for other, _ in loaded}:
                continue
            child, parent = self._store.existing(image_id), self._store.existing(image.parent)
            if not child.config.history and not parent.config.history:
                continue
            if child.config.history[:-1] != parent.config.history:
                raise SystemError_(f"image {parent.id} is not a valid parent for {child.id}")
            await self._store.adopt(child.id, parent.id)

    async def _take_apart(self, directory: Path, fd: int, platform: str) -> Iterator[ArchivedImage]:
        index = os.open(directory / "index", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            await self._helpers.run(["docker-load", str(directory)], {"stdin": fd, "index": index})
            data = os.pread(index, os.fstat(index).st_size, 0)
        finally:
            os.close(index)
        archive = Archive(directory, msgspec.msgpack.decode(data, type=Loaded))
        return await asyncio.to_thread(archive.images, platform)

    async def _load_image(
        self, image: ArchivedImage, quiet: bool, loaded: list[tuple[str, ArchivedImage]]
    ) -> AsyncGenerator[bytes, None]:
        """Register one image, and give it its names up to one that is none."""
        if image.fault is not None and not image.names:
            raise image.fault
        async with AsyncExitStack() as held:
            for number, (making, size) in enumerate(self._begin(image, held)):
                short = making.diff_id.removeprefix("sha256:")[:12]
                if not quiet:
                    yield line(status="Loading layer", progressDetail={"current": 0, "total": size}, id=short)
                try:
                    await making.wait()
                except InvalidParameter as error:
                    if str(error).startswith('expected "'):
                        raise InvalidParameter(f"invalid diffID for layer {number}: {error}") from error
                    raise
                if not quiet:
                    detail = {"current": size, "total": size}
                    yield line(status="Loading layer", progressDetail=detail, id=short)
            record = await self._store.add(image.blob)
            for name in image.names:
                before = self._store.named(name)
                if before is not None and before != record.id:
                    text = f"The image {name.familiar} already exists, renaming the old one with ID "
                    text += f"{before} to empty string\n"
                    yield line(stream=text)
                await self._store.tag(name, record.id)
                yield line(stream=f"Loaded image: {name.familiar}\n")
            if image.fault is not None:
                raise image.fault
            loaded.append((record.id, image))
            self._notices.publish("load", record)

    def _begin(self, image: ArchivedImage, held: AsyncExitStack) -> list[tuple[Making[_File], int]]:
        """All layers of *image* that are not there, being made, and their files' sizes in bytes.

        *held* gives back what is taken here. Loads of the same files at the same time are one.
        """
        chains, maker = self._layers.chains, self._layers.maker
        ids, have = chain_ids(image.config.rootfs.diff_ids), 0
        while have < len(ids) and ids[have] in chains:
            have += 1
        base = ids[have - 1] if have else ""
        chains.retain(base)
        held.push_async_callback(self._layers.release, base)
        below: Making[_File] | str = base
        made: list[tuple[Making[_File], int]] = []
        for layer, diff_id in zip(image.layers[have:], image.config.rootfs.diff_ids[have:], strict=True):
            size = layer.path.stat().st_size
            source = functools.partial(_File, layer)
            below = maker.join(below, diff_id, f"load {layer.digest} {size}", source)
            held.push_async_callback(maker.leave, below)
            made.append((below, size))
        return made

    @contextlib.asynccontextmanager
    async def fetched(self, url: str) -> AsyncIterator[int]:
        """The archive at *url* (:func:`web_address`), downloaded."""
        async with self._scratch.directory() as directory:
            arguments = document("docker-download", Download(url, str(directory), "archive"))
            downloaded = await ask(self._helpers, arguments, Downloaded)
            fd = os.open(downloaded.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield fd
            finally:
                os.close(fd)

    async def import_(self, fd: int, args: ImportArgs) -> AsyncGenerator[bytes, None]:
        """An archive of files becomes an image of one layer. Raises before anything is sent."""
        reference = parse_repository(args.repo, args.tag) if args.repo else None
        platform = platforms.parse(args.platform) if args.platform else platforms.host()
        if platform.os != "linux":
            raise InvalidParameter("operating system is not supported")
        config = Config()
        apply_changes(config, args.changes)
        config.entrypoint = config.entrypoint or None
        layer = await self._layers.chains.register("", fd)
        try:
            created, comment = rfc3339(time.time_ns()), args.message or f"Imported from {args.source or '-'}"
            document = {
                "architecture": platform.architecture,
                "comment": comment,
                "config": image_config(config),
                "created": created,
                "history": [{"created": created, "comment": comment}],
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            }
            if platform.variant:
                document["variant"] = platform.variant
            record = await self._store.add(msgspec.json.encode(document))
            if reference is not None:
                await self._store.tag(reference, record.id)
                self._notices.publish("tag", record, reference.familiar)
            self._notices.publish("import", record)
        finally:
            await self._layers.release(layer.chain_id)
        yield line(status=record.id)


__all__ = ["Loader", "web_address"]
