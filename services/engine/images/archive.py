"""What an archive of ``docker load`` holds: Docker's manifest.json, or an OCI image layout."""

from __future__ import annotations

import hashlib
import platform as machine_platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from reexec.helpers.load import Loaded
from services.engine.images.gosyntax import go_syntax_error
from services.engine.images.model import ImageConfig, parse_config
from services.engine.images.references import Reference, check_digest, parse
from services.engine.registry import platforms
from services.engine.registry.platforms import Platform
from services.protocol import jsonshape
from services.protocol.errors import InvalidParameter, SystemError_, WharfError

T = TypeVar("T")

#: Go's words for what JSON holds.
_KINDS: Mapping[type, str] = {dict: "object", str: "string", bool: "bool"}

#: Bytes of a manifest or an image configuration.
_MAX_DOCUMENT = 16 << 20

_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class _ManifestItem(msgspec.Struct, rename="pascal"):
    config: str = ""
    repo_tags: list[str] = []
    layers: list[str] = []
    parent: str = ""


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct):
    digest: str = ""
    media_type: str = msgspec.field(name="mediaType", default="")
    annotations: dict[str, str] = {}
    platform: _Platform | None = None


class _OciDocument(msgspec.Struct):
    """An index or a manifest."""

    manifests: list[_Descriptor] = []
    config: _Descriptor = msgspec.field(default_factory=_Descriptor)
    layers: list[_Descriptor] = []


@dataclass(frozen=True)
class LayerFile:
    """``digest`` is the stored blob's, "" when the archive does not say."""

    path: Path
    digest: str = ""


@dataclass(frozen=True)
class ArchivedImage:
    blob: bytes
    config: ImageConfig
    layers: list[LayerFile]
    names: list[Reference]
    #: What is wrong with the name that follows ``names``.
    fault: WharfError | None = None
    #: Id of the image that this one was made from, "" when the archive does not say.
    parent: str = ""


class Archive:
    """The files of a taken apart archive (``docker-load``)."""

    def __init__(self, directory: Path, index: Loaded) -> None:
        self._directory = directory
        self._index = index

    def images(self, platform: str) -> Iterator[ArchivedImage]:
        """The images, each checked as far as that goes without reading layers when its turn comes.

        This and the iteration raise ``SystemError_`` and ``InvalidParameter`` with Docker's texts.
        """
        if "manifest.json" in self._index.files:
            return self._docker_images(platform)
        if "index.json" in self._index.files:
            return iter(self._oci_images(platform))
        raise SystemError_("invalid archive: does not contain a manifest.json")

    def _path(self, name: str) -> Path:
        number = self._index.files.get(name.lstrip("/"))
        if number is None:
            raise SystemError_(f"open /{name.lstrip('/')}: no such file or directory")
        return self._directory / str(number)

    def _document(self, name: str) -> bytes:
        path = self._path(name)
        if path.stat().st_size > _MAX_DOCUMENT:
            raise SystemError_(f"{name} is larger than {_MAX_DOCUMENT} bytes")
        return path.read_bytes()

    def _docker_images(self, platform: str) -> Iterator[ArchivedImage]:
        """Images for another platform are left out; as in dockerd, that may be all of them."""
        items = _decode_list(self._document("manifest.json"), _ManifestItem, "manifest.json")
        wanted = platforms.parse(platform) if platform else None
        found = (self._docker_image(item, wanted) for item in items)
        return (image for image in found if image is not None)

    def _docker_image(self, item: _ManifestItem, wanted: Platform | None) -> ArchivedImage | None:
        blob = self._document(item.config)
        config = parse_config(blob)
        if (config.os or "linux") != "linux":
            raise SystemError_(f"cannot load {config.os} image on linux")
        if wanted and not platforms.is_for(wanted, config.os, config.architecture, config.variant):
            return None
        _check_layer_count(len(item.layers), config)
        layers = [LayerFile(self._path(name)) for name in item.layers]
        names, fault = _tags(item.repo_tags)
        return ArchivedImage(blob, config, layers, names, fault, item.parent)

    def _oci_images(self, platform: str) -> list[ArchivedImage]:
        index = _decode(self._document("index.json"), _OciDocument, "index.json")
        images: dict[str, ArchivedImage] = {}
        for descriptor in index.manifests:
            for found in self._select(descriptor, platform):
                name = next(
                    (
                        descriptor.annotations[key]
                        for key in _NAME_ANNOTATIONS
                        if key in descriptor.annotations
                    ),
                    "",
                )
                self._oci_image(found.digest, name, images)
        if not images:
            raise SystemError_("invalid archive: the index has no image for this platform")
        return list(images.values())

    def _select(self, descriptor: _Descriptor, platform: str) -> list[_Descriptor]:
        """The manifests of a descriptor: itself, or those of an index that are for *platform*."""
        if descriptor.media_type not in _INDEX_TYPES:
            return [descriptor]
        nested = _decode(self._blob(descriptor.digest), _OciDocument, descriptor.digest)
        wanted = platforms.parse(platform or host_platform())
        ranks = {
            item.digest: platforms.rank(wanted, spec.os, spec.architecture, spec.variant)
            for item in nested.manifests
            if (spec := item.platform) is not None
        }
        best = min((rank for rank in ranks.values() if rank is not None), default=None)
        return [
            item
            for item in nested.manifests
            if item.digest not in ranks or (best is not None and ranks[item.digest] == best)
        ]

    def _blob(self, digest: str) -> bytes:
        data = self._document(_blob_name(digest))
        found = hashlib.new(digest.partition(":")[0], data).hexdigest()
        if found != digest.partition(":")[2]:
            raise SystemError_(f'blob digest mismatch: expected "{digest}", got "sha256:{found}"')
        return data

    def _oci_image(self, digest: str, name: str, images: dict[str, ArchivedImage]) -> None:
        manifest = _decode(self._blob(digest), _OciDocument, digest)
        blob = self._blob(manifest.config.digest)
        config = parse_config(blob)
        _check_layer_count(len(manifest.layers), config)
        layers = [LayerFile(self._path(_blob_name(layer.digest)), layer.digest) for layer in manifest.layers]
        names = list(images[digest].names) if digest in images else []
        # A bare tag ("1.0") is no name: the image is loaded without one.
        if "/" in name or ":" in name:
            names.append(_tag(name))
        images[digest] = ArchivedImage(blob, config, layers, names)


def host_platform() -> str:
    machine = machine_platform.machine()
    return "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _blob_name(digest: str) -> str:
    check_digest(digest)
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _check_layer_count(layers: int, config: ImageConfig) -> None:
    if layers != len(config.rootfs.diff_ids):
        raise SystemError_(
            f"invalid manifest, layers length mismatch: expected {layers}, got {len(config.rootfs.diff_ids)}"
        )
    for diff_id in config.rootfs.diff_ids:
        check_digest(diff_id)


def _tags(texts: list[str]) -> tuple[list[Reference], WharfError | None]:
    """The names up to one that is none, and what is wrong with it."""
    names: list[Reference] = []
    try:
        for text in texts:
            names.append(_tag(text))
    except WharfError as fault:
        return names, fault
    return names, None


def _tag(name: str) -> Reference:
    reference = parse(name)
    if not reference.tag or reference.digest:
        raise InvalidParameter(f'invalid tag "{name}"')
    return reference


def _decode(data: bytes, kind: type[T], name: str) -> T:
    """One document; every member may be ``null``."""
    return _guarded(data, name, lambda: jsonshape.decode(data, kind))


def _decode_list(data: bytes, kind: type[T], name: str) -> list[T]:
    raw = _guarded(data, name, lambda: jsonshape.parse(data))
    if raw is None:
        raise SystemError_("invalid manifest, manifest cannot be null (but can be [])")
    if not isinstance(raw, list):
        what = _KINDS.get(type(raw), "number")
        problem = f"json: cannot unmarshal {what} into Go value of type []tarexport.manifestItem"
        raise SystemError_(f"invalid archive: failed to decode {name}: {problem}")
    return _guarded(data, name, lambda: [jsonshape.convert(item, kind) for item in raw])


def _guarded(data: bytes, name: str, decode: Callable[[], T]) -> T:
    try:
        return decode()
    except msgspec.ValidationError as error:
        raise SystemError_(f"invalid archive: failed to decode {name}: {error}") from error
    except msgspec.DecodeError as error:
        problem = go_syntax_error(data)
        raise SystemError_(f"invalid archive: failed to decode {name}: {problem}") from error
