"""``docker push``: layers that the registry lacks, the configuration, the manifest.

A layer is looked for by the digests it is known under, then mounted from another repository, then
compressed and uploaded. The blobs are forgotten as soon as they are sent.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from reexec.distribution.model import IMAGE_CONFIG, IMAGE_LAYER, MANIFEST_V2, Credentials, Target
from reexec.helpers.push import KnownBlob, Packed, PackLayer
from services.engine.helpers import ask, document
from services.engine.images.layerblobs import LayerBlob
from services.engine.images.progress import Progress, Transfer, short
from services.engine.images.references import Reference
from services.engine.images.scratch import Scratch
from services.engine.images.transferring import Context, Slots
from services.engine.layers import Layer
from services.engine.registry.client import memory, narrowed
from services.engine.registry.manifests import Descriptor, ImageManifest, encoded
from services.protocol.errors import NotFound, SystemError_, Unavailable

T = TypeVar("T")


class Pusher:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.slots = Slots(lambda: context.settings().max_concurrent_uploads)
        self.scratch = Scratch(context.data_root, "push-")

    async def push(self, reference: Reference, credentials: Credentials) -> AsyncGenerator[bytes, None]:
        """Progress; a name without a tag is all its tags. What fails, fails after the first line."""
        progress = Progress()
        work = self._run(progress, reference, credentials)
        task = self.context.background.spawn(work, name="push", awaited=True)
        async with aclosing(Transfer(progress, task).follow()) as lines:
            async for line in lines:
                yield line

    async def _run(self, progress: Progress, reference: Reference, credentials: Credentials) -> None:
        try:
            progress.say(f"The push refers to repository [{reference.name}]")
            images = self._images(reference)
            target = await self.context.registry.target(reference, credentials, push=True)
            for name, image_id in images:
                await _Push(self, progress, name, target).run(image_id)
            self._announce(reference)
        finally:
            progress.end()

    def _announce(self, reference: Reference) -> None:
        """One event for what was asked for, however many tags that was."""
        store = self.context.store
        record = store.by_id(store.named(reference) or "")
        attributes = {**(record.labels if record else {}), "name": reference.familiar_name}
        self.context.events.publish("image", "push", reference.familiar, attributes)

    def _images(self, reference: Reference) -> list[tuple[Reference, str]]:
        """What to push. Raises ``NotFound``, and ``SystemError_`` for a digest."""
        if (
            reference.tag
            and not reference.digest
            and (image_id := self.context.store.named(reference)) is not None
        ):
            return [(reference, image_id)]
        tags = [
            (name, record.id)
            for record in self.context.store
            for name in self.context.store.references(record.id)
            if name.name == reference.name and not name.digest
        ]
        if not tags:
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
        if reference.digest:
            raise SystemError_("cannot push a digest reference")
        if reference.tag:
            raise NotFound(f"tag does not exist: {reference.familiar}")
        return sorted(tags, key=str)


class _Push:
    """One image under one name."""

    def __init__(self, pusher: Pusher, progress: Progress, name: Reference, target: Target) -> None:
        self._context = pusher.context
        self._slots = pusher.slots
        self._scratch = pusher.scratch
        self._progress = progress
        self._name = name
        self._target = target

    async def run(self, image_id: str) -> None:
        context, name = self._context, self._name
        record = context.store.by_id(image_id)
        if record is None:
            raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
        context.layers.chains.retain(record.chain_id)
        try:
            layers = context.layers.chains.lineage(record.chain_id)
            await self._let_in(layers)
            for layer in layers:
                self._progress.state(short(layer.diff_id), "Preparing")
            found = await self._layers(layers)
            blob = context.store.blob(image_id)
            with memory("config") as fd:
                os.pwrite(fd, blob, 0)
                await self._once(lambda: self._upload("", image_id, fd, len(blob)))
            config = Descriptor(IMAGE_CONFIG, image_id, len(blob))
            manifest = ImageManifest(
                media_type=MANIFEST_V2,
                config=config,
                layers=[found[layer.diff_id] for layer in reversed(layers)],
            )
            data = encoded(manifest)
            await context.registry.push_manifest(self._target, name.tag, MANIFEST_V2, data)
            digest = _digest(data)
            await context.store.tag(replace(name, tag="", digest=digest), image_id)
        finally:
            await context.layers.release(record.chain_id)
        self._progress.say(f"{name.tag}: digest: {digest} size: {len(data)}")
        self._progress.aux({"Tag": name.tag, "Digest": digest, "Size": len(data)})

    async def _let_in(self, layers: list[Layer]) -> None:
        """Once for all helpers, for the repositories that can be mounted from as well."""
        known = [blob for layer in layers for blob in self._known(layer.diff_id)]
        sources = sorted({blob.source for blob in known if blob.source})
        if (self._target.sources or []) != sources:
            self._target = Target(
                self._target.endpoints,
                self._target.repository,
                self._target.credentials,
                push=True,
                sources=sources,
            )
        probed = await self._repeated("", lambda: self._context.registry.probe(self._target, []))
        self._target = narrowed(self._target, probed.session)

    def _known(self, diff_id: str) -> list[KnownBlob]:
        """Blobs of this registry, those of the repository itself first."""
        found: list[KnownBlob] = []
        for blob in self._context.blobs.of(diff_id):
            domain, _, path = blob.repository.partition("/")
            if domain == self._name.domain and "zstd" not in blob.media_type:
                found.append(KnownBlob(blob.digest, "" if path == self._name.path else path))
        return sorted(found, key=lambda blob: bool(blob.source))

    async def _layers(self, layers: list[Layer]) -> dict[str, Descriptor]:
        """Descriptors by diff id; the first that fails ends the others."""
        chains = {layer.diff_id: layer.chain_id for layer in layers}
        async with self._scratch.directory() as directory:
            tasks = {
                diff_id: self._context.background.spawn(
                    self._layer(diff_id, chain, directory / str(number)), name="layer", awaited=True
                )
                for number, (diff_id, chain) in enumerate(chains.items())
            }
            try:
                await asyncio.gather(*tasks.values())
                return {diff_id: task.result() for diff_id, task in tasks.items()}
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _layer(self, diff_id: str, chain: str, path: Path) -> Descriptor:
        name = short(diff_id)
        if self._slots.full:
            self._progress.state(name, "Waiting")
        async with self._slots.one():
            if (known := self._known(diff_id)) and (found := await self._there(diff_id, known)) is not None:
                return found
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                saved, _ = self._context.layers.chains.saved(chain)
                arguments = document("docker-push-pack", PackLayer(saved))
                packed = await ask(self._context.registry.helpers, arguments, Packed, {"out": fd})
                upload = functools.partial(self._upload, name, packed.digest, fd, packed.size)
                existed = await self._repeated(name, upload)
            finally:
                os.close(fd)
                await asyncio.to_thread(path.unlink, missing_ok=True)
        self._progress.state(name, "Layer already exists" if existed else "Pushed")
        await self._remember(diff_id, packed.digest, packed.size)
        return Descriptor(IMAGE_LAYER, packed.digest, packed.size)

    async def _there(self, diff_id: str, known: list[KnownBlob]) -> Descriptor | None:
        """The layer as the registry has it already."""
        probed = await self._repeated(
            short(diff_id), lambda: self._context.registry.probe(self._target, known)
        )
        if not probed.digest:
            return None
        text = f"Mounted from {probed.source}" if probed.source else "Layer already exists"
        self._progress.state(short(diff_id), text)
        size = next(b.size for b in self._context.blobs.of(diff_id) if b.digest == probed.digest)
        await self._remember(diff_id, probed.digest, size)
        return Descriptor(IMAGE_LAYER, probed.digest, size)

    async def _remember(self, diff_id: str, digest: str, size: int) -> None:
        await self._context.blobs.add(LayerBlob(diff_id, digest, size, IMAGE_LAYER, self._name.name))

    async def _upload(self, name: str, digest: str, fd: int, size: int) -> bool:
        """Returns whether it was there. *name* is the layer's in progress, "" for what is no layer."""
        os.lseek(fd, 0, os.SEEK_SET)
        seen = 0

        def look() -> None:
            nonlocal seen
            current = os.lseek(fd, 0, os.SEEK_CUR)
            if name and current != seen:
                self._progress.count(name, "Pushing", current, size)
                seen = current

        work = self._context.registry.push_blob(self._target, digest, fd, size)
        return (await self._context.watched(work, look)).existed

    async def _repeated(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._context.repeated(work, lambda text: self._progress.state(name, text))

    @staticmethod
    async def _once(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """For what comes first or last: another attempt would only say the same later."""
        try:
            return await work()
        except Unavailable as error:
            raise SystemError_(str(error)) from error


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
