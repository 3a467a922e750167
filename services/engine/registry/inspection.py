"""``GET /distribution/{name}/json``: what a registry has under a name, without pulling it."""

from __future__ import annotations

import os

import msgspec

from reexec.distribution.model import MAX_CONFIG, Credentials
from services.engine.images.references import is_digest, is_identifier, parse
from services.engine.registry import manifests
from services.engine.registry.client import RegistryClient, memory
from services.engine.registry.manifests import Descriptor, PlatformSpec
from services.protocol import jsonshape
from services.protocol.errors import SystemError_


class Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    """``DistributionInspect`` of the API."""

    descriptor: Descriptor
    platforms: list[PlatformSpec]


async def inspect(registry: RegistryClient, name: str, credentials: Credentials) -> bytes:
    """Raises the registry's own errors, and ``InvalidParameter`` for a bad name."""
    if is_digest(name) or is_identifier(name):
        raise SystemError_("no manifest found for full image ID")
    reference = parse(name).with_default_tag()
    target = await registry.target(reference, credentials)
    manifest, target = await registry.manifest(target, reference.digest or reference.tag)
    descriptor = Descriptor(manifests.media_type(manifest), manifest.digest, len(manifest.data))
    if manifests.is_index(manifest):
        found = [entry.platform for entry in manifests.index(manifest).manifests if entry.platform]
        return msgspec.json.encode(Inspected(descriptor, found))
    config = manifests.image(manifest, reference.familiar).config
    with memory("config") as fd:
        pulled = await registry.blob(target, config.digest, fd, size=config.size, limit=MAX_CONFIG)
        data = os.pread(fd, pulled.size, 0)
    return msgspec.json.encode(Inspected(descriptor, [_platform(data)]))


def _platform(data: bytes) -> PlatformSpec:
    try:
        document = jsonshape.parse(data)
        return msgspec.convert(document, PlatformSpec)
    except msgspec.MsgspecError as error:
        raise SystemError_(f"invalid image configuration: {error}") from error
