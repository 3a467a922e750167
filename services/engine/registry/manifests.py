"""Manifests and indexes as documents: read without believing them."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from reexec.distribution.model import (
    IMAGE_CONFIG,
    MANIFEST_LIST,
    MANIFEST_V1,
    MANIFEST_V2,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
)
from services.engine.images.references import check_digest
from services.engine.registry import platforms
from services.engine.registry.client import Manifest
from services.engine.registry.platforms import Platform
from services.protocol import jsonshape
from services.protocol.errors import InvalidParameter, NotFound, SystemError_

T = TypeVar("T")


class PlatformSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    architecture: str = ""
    os: str = ""
    os_version: str = msgspec.field(name="os.version", default="")
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """``size`` in bytes."""

    media_type: str = ""
    digest: str = ""
    size: int = 0
    urls: list[str] | None = None
    platform: PlatformSpec | None = None


class ImageManifest(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    schema_version: int = 2
    media_type: str = ""
    config: Descriptor
    layers: list[Descriptor]


def encoded(manifest: ImageManifest) -> bytes:
    """As Docker writes it: members in this order, indented."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=3)


class Index(msgspec.Struct, frozen=True, rename="camel"):
    manifests: list[Descriptor]
    schema_version: int = 2
    media_type: str = ""


class _Kind(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    manifests: list[object] | None = None


def media_type(manifest: Manifest) -> str:
    """What the document says it is, else what the registry said."""
    found = _decode(manifest.data, _Kind)
    if found.schema_version == 1:
        return MANIFEST_V1[0]
    if found.media_type:
        return found.media_type
    if manifest.media_type in (MANIFEST_V2, MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST):
        return manifest.media_type
    return OCI_INDEX if found.manifests is not None else OCI_MANIFEST


def is_index(manifest: Manifest) -> bool:
    return media_type(manifest) in (MANIFEST_LIST, OCI_INDEX)


def index(manifest: Manifest) -> Index:
    return _decode(manifest.data, Index)


def image(manifest: Manifest, name: str) -> ImageManifest:
    """The manifest of one image; *name* is for the error. Raises ``InvalidParameter``."""
    kind = media_type(manifest)
    if kind in MANIFEST_V1:
        raise InvalidParameter(
            "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 "
            f"support is removed. Suggest the author of {name} to upgrade the image to the OCI Format or "
            "Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
        )
    if kind not in (MANIFEST_V2, OCI_MANIFEST):
        raise InvalidParameter(f"unsupported manifest format: {kind}")
    found = _decode(manifest.data, ImageManifest)
    _check_config(kind, found.config.media_type)
    for descriptor in (found.config, *found.layers):
        check_digest(descriptor.digest)
        if descriptor.size < 0:
            raise SystemError_(f"{descriptor.digest} of a manifest has a negative size")
        if descriptor.urls:
            raise SystemError_(f"foreign layers are not pulled: {descriptor.digest}")
    return found


#: What a configuration may say it is, and what else is known; registries also hold what is no image.
_CONFIGS = (IMAGE_CONFIG, OCI_CONFIG, "application/octet-stream", "")
_CLASSES = {
    "application/vnd.docker.plugin.v1+json": "plugin",
    "application/vnd.docker.container.image.v1+json": "image",
}


def _check_config(kind: str, media_type: str) -> None:
    if media_type in _CONFIGS:
        return
    if kind == MANIFEST_V2:
        which = _CLASSES.get(media_type, "unknown")
        raise InvalidParameter(f'encountered remote "{media_type}"({which}) when fetching')
    raise InvalidParameter(f"unsupported media type {media_type}")


def choose(manifest: Manifest, wanted: Platform) -> Descriptor:
    """The index's entry that serves a platform best. Raises ``NotFound`` with dockerd's text."""
    found: list[tuple[int, Descriptor]] = []
    for entry in index(manifest).manifests:
        spec = entry.platform or PlatformSpec()
        rank = platforms.rank(wanted, spec.os, spec.architecture, spec.variant)
        if rank is not None:
            found.append((rank, entry))
    if found:
        chosen = min(found, key=lambda item: item[0])[1]
        check_digest(chosen.digest)
        return chosen
    raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.convert(jsonshape.parse(data), kind)
    except msgspec.MsgspecError as error:
        raise SystemError_(f"invalid manifest: {error}") from error
