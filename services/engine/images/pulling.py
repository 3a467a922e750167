"""``docker pull``: manifest, configuration, layers, names. Pulls of the same image are one.

Layers are downloaded side by side and registered from the lowest up as they come; what is registered
is held until the image holds it, so a pull that ends early leaves nothing.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

from reexec.distribution.model import MAX_CONFIG, Credentials, Target
from services.engine.events import Events
from services.engine.images.downloads import Downloads, LayerDownload
from services.engine.images.layerblobs import LayerBlob, LayerBlobs
from services.engine.images.model import ImageConfig, Record, parse_config
from services.engine.images.progress import Progress, Transfer, short
from services.engine.images.references import Reference
from services.engine.images.store import ImageStore
from services.engine.layers import LayerManager, chain_ids
from services.engine.registry import RegistryClient, manifests, platforms
from services.engine.registry.client import Manifest, Refused, memory, translated
from services.engine.registry.manifests import Descriptor, ImageManifest
from services.engine.registry.platforms import Platform
from services.engine.scopes import Background, shielded
from services.protocol.errors import InvalidParameter, SystemError_, WharfError
from services.protocol.settings import Settings

_PREFIX = "pull-"
#: Seconds between two looks at how far an extraction is.
_LOOK = 0.1


class Puller:
    def __init__(
        self,
        store: ImageStore,
        layers: LayerManager,
        blobs: LayerBlobs,
        events: Events,
        registry: RegistryClient,
        background: Background,
        data_root: Path,
        settings: Callable[[], Settings],
    ) -> None:
        self._store = store
        self._layers = layers
        self._blobs = blobs
        self._events = events
        self._registry = registry
        self._background = background
        self._downloads = Downloads(registry, background, settings)
        self._tmp = data_root / "tmp"
        self._running: dict[object, Transfer] = {}
        self._tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._tmp.glob(_PREFIX + "*"):
            shutil.rmtree(left, ignore_errors=True)

    async def pull(
        self, reference: Reference, platform: Platform | None, credentials: Credentials
    ) -> AsyncIterator[bytes]:
        """Progress; a name without tag and digest is all its tags. Raises what dockerd answers."""
        key = (reference, platform, credentials)
        if (transfer := self._running.get(key)) is None:
            progress = Progress()
            work = self._run(key, progress, reference, platform, credentials)
            transfer = Transfer(progress, self._background.spawn(work, name="pull", awaited=True))
            self._running[key] = transfer
        async with aclosing(transfer.follow()) as lines:  # type: ignore[type-var]
            async for line in lines:
                yield line

    async def _run(
        self,
        key: object,
        progress: Progress,
        reference: Reference,
        platform: Platform | None,
        credentials: Credentials,
    ) -> None:
        try:
            target = await self._registry.target(reference, credentials)
            if reference.tag or reference.digest:
                await _Pull(self, progress, reference, platform).run(target)
                return
            tags, target = await self._tags(target, reference)
            for tag in tags:
                await _Pull(self, progress, replace(reference, tag=tag), platform).run(target)
        finally:
            self._running.pop(key, None)
            progress.end()

    async def _tags(self, target: Target, reference: Reference) -> tuple[list[str], Target]:
        try:
            return await self._registry.tags(target)
        except Refused as error:
            raise translated(error, reference) from error


class _Pull:
    """One image by one name."""

    def __init__(
        self, puller: Puller, progress: Progress, reference: Reference, platform: Platform | None
    ) -> None:
        self._puller = puller
        self._store = puller._store
        self._layers = puller._layers
        self._registry = puller._registry
        self._progress = progress
        self._reference = reference.without_tag() if reference.digest else reference
        self._platform = platform

    async def run(self, target: Target) -> None:
        name = self._reference
        try:
            top, target = await self._registry.manifest(target, name.digest or name.tag)
        except Refused as error:
            raise translated(error, name) from error
        self._progress.say(f"Pulling from {name.path}", name.tag or name.familiar)
        manifest = top
        if manifests.is_index(top):
            entry = manifests.choose(top, self._platform or platforms.host())
            manifest, target = await self._registry.manifest(target, entry.digest)
        record = await self._image(target, manifest)
        fresh = await self._name(record, top.digest)
        self._progress.say(f"Digest: {top.digest}")
        what = "Downloaded newer image" if fresh else "Image is up to date"
        self._progress.say(f"Status: {what} for {name.familiar}")
        self._warn(record)
        attributes = {**record.labels, "name": name.familiar_name}
        self._puller._events.publish("image", "pull", name.familiar, attributes)

    async def _name(self, record: Record, digest: str) -> bool:
        """Give the image its names; returns whether the one that was asked for is new to it."""
        name = self._reference
        known = self._store.named(name) == record.id
        by_digest = replace(name, tag="", digest=digest)
        # An index's digest stays with the platform that came first, as in dockerd.
        if self._store.named(by_digest) is None:
            await self._store.tag(by_digest, record.id)
        if not known:
            await self._store.tag(name, record.id)
        return not known

    def _warn(self, record: Record) -> None:
        config, wanted = record.config, self._platform
        if wanted is None or platforms.matches(wanted, config.os, config.architecture, config.variant):
            return
        actual = "/".join(
            part for part in (config.os or "linux", config.architecture, config.variant) if part
        )
        self._progress.say(
            f"WARNING: image with reference {self._reference.familiar} was found but its platform ({actual}) "
            f"does not match the specified platform ({wanted})"
        )

    async def _image(self, target: Target, manifest: Manifest) -> Record:
        document = manifests.image(manifest, self._reference.familiar)
        if (record := self._store.by_id(document.config.digest)) is not None:
            return record
        try:
            blob = await self._config(target, document.config)
        except Refused as error:
            raise SystemError_(f"error pulling image configuration: {error}") from error
        config = parse_config(blob)
        if (config.os or "linux") != "linux":
            raise InvalidParameter(f'image operating system "{config.os}" cannot be used on this platform')
        if len(config.rootfs.diff_ids) != len(document.layers):
            raise SystemError_("layers from manifest don't match image configuration")
        async with AsyncExitStack() as held:
            await self._pull_layers(target, document, config, held)
            return await self._store.add(blob)

    async def _config(self, target: Target, config: Descriptor) -> bytes:
        with memory("config") as fd:
            try:
                pulled = await self._registry.blob(
                    target, config.digest, fd, size=config.size, limit=MAX_CONFIG
                )
            except InvalidParameter as error:
                raise SystemError_(
                    "error pulling image configuration: image config verification failed for digest "
                    f"{config.digest}"
                ) from error
            except WharfError as error:
                raise SystemError_(f"error pulling image configuration: {error}") from error
            return os.pread(fd, pulled.size, 0)

    async def _pull_layers(
        self, target: Target, document: ImageManifest, config: ImageConfig, held: AsyncExitStack
    ) -> None:
        """All layers registered, and released by *held*."""
        chains = chain_ids(config.rootfs.diff_ids)
        have = 0
        while have < len(chains) and chains[have] in self._layers.chains:
            have += 1
        parent = chains[have - 1] if have else ""
        self._layers.chains.retain(parent)
        held.push_async_callback(self._layers.release, parent)
        for layer in document.layers[:have]:
            self._progress.state(short(layer.digest), "Already exists")
        for layer in document.layers[have:]:
            self._progress.state(short(layer.digest), "Pulling fs layer")
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=_PREFIX, dir=self._puller._tmp))
        held.push_async_callback(_remove, directory)
        wanted = document.layers[have:]
        downloads = self._puller._downloads.start(target, wanted, directory, self._progress)
        held.push_async_callback(downloads.close)
        for layer, diff_id in zip(wanted, config.rootfs.diff_ids[have:], strict=True):
            parent = await self._register(parent, layer, diff_id, await downloads.get(layer.digest))
            held.push_async_callback(self._layers.release, parent)

    async def _register(self, parent: str, layer: Descriptor, diff_id: str, download: LayerDownload) -> str:
        fd = os.open(download.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            work = self._layers.chains.register(parent, fd, diff_id=diff_id)
            task = self._puller._background.spawn(work, name="register", awaited=True)
            try:
                await self._watch(task, fd, layer)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            registered = task.result()
        except InvalidParameter as error:
            if str(error).startswith('expected "'):
                raise SystemError_("layers from manifest don't match image configuration") from error
            raise SystemError_(f"failed to register layer: {error}") from error
        except WharfError as error:
            raise SystemError_(f"failed to register layer: {error}") from error
        finally:
            os.close(fd)
        self._progress.state(short(layer.digest), "Pull complete")
        name = self._reference.name
        await self._puller._blobs.add(LayerBlob(diff_id, layer.digest, download.size, layer.media_type, name))
        return registered.chain_id

    async def _watch(self, task: asyncio.Task[object], fd: int, layer: Descriptor) -> None:
        """How far the helper has read is the offset that it shares with us."""
        total = os.fstat(fd).st_size
        while not task.done():
            self._progress.count(short(layer.digest), "Extracting", os.lseek(fd, 0, os.SEEK_CUR), total)
            await asyncio.wait({task}, timeout=_LOOK)
        self._progress.count(short(layer.digest), "Extracting", total, total)


async def _remove(directory: Path) -> None:
    await shielded(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))


__all__ = ["Puller"]
