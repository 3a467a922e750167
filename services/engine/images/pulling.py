"""``docker pull``: manifest, configuration, layers, names. Pulls of the same image are one.

Layers are downloaded, extracted and registered side by side (``layers/making.py``), also with those of other
pulls; they are held until the image holds them, so a pull that ends early leaves nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

from reexec.distribution.model import MAX_CONFIG, Credentials, Target
from services.engine.images.downloads import Download, Downloads
from services.engine.images.layerblobs import LayerBlob
from services.engine.images.model import ImageConfig, Record, parse_config
from services.engine.images.progress import Progress, Transfer, short
from services.engine.images.references import Reference, parse_repository
from services.engine.images.transferring import Context
from services.engine.layers import Making, chain_ids
from services.engine.registry import manifests, platforms
from services.engine.registry.client import Manifest, Refused, memory, translated
from services.engine.registry.manifests import Descriptor, ImageManifest
from services.engine.registry.platforms import Platform
from services.protocol.errors import InvalidParameter, SystemError_, WharfError


class Puller:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.downloads = Downloads(context)
        self._running: dict[object, Transfer] = {}

    async def pull(
        self, reference: Reference, platform: Platform | None, credentials: Credentials
    ) -> AsyncGenerator[bytes, None]:
        """Progress; a name without tag and digest is all its tags. Raises what dockerd answers."""
        key = (reference, platform, credentials)
        if (transfer := self._running.get(key)) is None or transfer.ending:
            progress = Progress()
            work = self._run(key, progress, reference, platform, credentials)
            transfer = Transfer(progress, self.context.background.spawn(work, name="pull", awaited=True))
            self._running[key] = transfer
        async with aclosing(transfer.follow()) as lines:
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
            target = await self.context.registry.target(reference, credentials)
            asked = reference.without_tag() if reference.digest else reference
            names = [asked]
            if not reference.tag and not reference.digest:
                tags, target = await self._tags(target, reference)
                # Checked: a registry may call its tags anything, and they become paths and names.
                names = [parse_repository(reference.name, tag) for tag in tags]
            fresh = [await _Pull(self, progress, name, platform).run(target) for name in names]
            self._done(progress, asked, platform, any(fresh))
        finally:
            # Its place may have been taken since its last client left.
            if self._running[key].progress is progress:
                del self._running[key]
            progress.end()

    def _done(self, progress: Progress, asked: Reference, platform: Platform | None, fresh: bool) -> None:
        """All that was asked for is there, under one name or many: one status, and one event."""
        what = "Downloaded newer image" if fresh else "Image is up to date"
        progress.say(f"Status: {what} for {asked.familiar}")
        record = self.context.store.by_id(self.context.store.named(asked) or "")
        if record is not None and platform is not None:
            _warn(progress, asked, platform, record.config)
        attributes = {**(record.labels if record else {}), "name": asked.familiar_name}
        self.context.events.publish("image", "pull", asked.familiar, attributes)

    async def _tags(self, target: Target, reference: Reference) -> tuple[list[str], Target]:
        try:
            return await self.context.registry.tags(target)
        except Refused as error:
            raise translated(error, reference) from error


class _Pull:
    """One image by one name."""

    def __init__(
        self, puller: Puller, progress: Progress, reference: Reference, platform: Platform | None
    ) -> None:
        self._context = puller.context
        self._downloads = puller.downloads
        self._store = puller.context.store
        self._layers = puller.context.layers
        self._registry = puller.context.registry
        self._progress = progress
        self._reference = reference
        self._platform = platform

    async def run(self, target: Target) -> bool:
        """Whether the image is new under this name."""
        name = self._reference
        try:
            top, target = await self._registry.manifest(target, name.digest or name.tag)
        except Refused as error:
            raise translated(error, name) from error
        self._progress.say(f"Pulling from {name.path}", name.tag or name.familiar)
        manifest = top
        if manifests.is_index(top):
            entry = manifests.choose(top, self._platform or platforms.host())
            try:
                manifest, target = await self._registry.manifest(target, entry.digest)
            except Refused as error:
                raise translated(error, name) from error
        record = await self._image(target, manifest)
        fresh = await self._name(record, top.digest)
        self._progress.say(f"Digest: {top.digest}")
        return fresh

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
        diff_ids = config.rootfs.diff_ids
        chains = chain_ids(diff_ids)
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
        below: Making[Download] | str = parent
        tasks: list[asyncio.Task[None]] = []
        for layer, diff_id in zip(document.layers[have:], diff_ids[have:], strict=True):
            below = self._layers.maker.join(below, diff_id, layer.digest, self._source(target, layer))
            held.push_async_callback(self._layers.maker.leave, below)
            work = self._registered(below, layer)
            tasks.append(self._context.background.spawn(work, name="layer", awaited=True))
        try:
            await _all(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _source(self, target: Target, layer: Descriptor) -> Callable[[], Download]:
        return lambda: self._downloads.join(target, layer)

    async def _registered(self, making: Making[Download], layer: Descriptor) -> None:
        download = making.source
        download.steps.join(self._progress)
        try:
            await making.wait()
        except WharfError as error:
            if download.failed:
                raise
            if isinstance(error, InvalidParameter) and str(error).startswith('expected "'):
                raise SystemError_("layers from manifest don't match image configuration") from error
            raise SystemError_(f"failed to register layer: {error}") from error
        finally:
            download.steps.leave(self._progress)
        self._progress.state(short(layer.digest), "Pull complete")
        if not download.done:
            return  # somebody else has registered the layer just now: this blob may be another one
        name, media_type = self._reference.name, layer.media_type
        blob = LayerBlob(making.diff_id, layer.digest, download.size, media_type, name)
        await self._context.blobs.add(blob)


async def _all(tasks: list[asyncio.Task[None]]) -> None:
    """To the end of all of them, or raise what the lowest of those that failed first has failed with:
    what is above it fails for its sake."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done:
                task.result()


def _warn(progress: Progress, name: Reference, wanted: Platform, config: ImageConfig) -> None:
    """A single image is taken whatever it is for; an index would have been asked for the platform."""
    if platforms.is_for(wanted, config.os, config.architecture, config.variant):
        return
    actual = "/".join(part for part in (config.os or "linux", config.architecture, config.variant) if part)
    progress.say(
        f"WARNING: image with reference {name.familiar} was found but its platform ({actual}) "
        f"does not match the specified platform ({wanted})"
    )


__all__ = ["Puller"]
