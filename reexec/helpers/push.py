"""``docker-push-*``: a layer into a compressed file, and files into a registry.

A layer is compressed before it is sent: the registry can be asked for it by its digest first, and an
upload that breaks is repeated from the file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from reexec.call import Call
from reexec.distribution.model import Session, Target
from reexec.helpers.save import SavedLayer, joined
from reexec.registry import register
from services.protocol.errors import ErrorKind, SystemError_, WharfError

if TYPE_CHECKING:
    from reexec.distribution.client import Repository

_BLOCK = 256 << 10
#: Of isal's levels 0 to 3: most of zlib's size at several times its speed.
_LEVEL = 2
#: zlib's way to ask for gzip's header, which has no name and no time: the same layer, the same bytes.
_GZIP = 31


class PackLayer(msgspec.Struct, frozen=True):
    layer: SavedLayer


class Packed(msgspec.Struct, frozen=True):
    digest: str
    size: int


class KnownBlob(msgspec.Struct, frozen=True):
    """``source`` is the repository that has it, "" for the target's own."""

    digest: str
    source: str = ""


class PushProbe(msgspec.Struct, frozen=True):
    """Is any of ``known`` there, or can it be mounted?"""

    target: Target
    known: list[KnownBlob] = []


class Probed(msgspec.Struct, frozen=True):
    """``digest`` is "" when none is; ``source`` is where it was mounted from."""

    session: Session
    digest: str = ""
    source: str = ""


class PushBlob(msgspec.Struct, frozen=True):
    target: Target
    digest: str
    size: int


class Pushed(msgspec.Struct, frozen=True):
    session: Session
    existed: bool


class PushManifest(msgspec.Struct, frozen=True):
    target: Target
    reference: str
    media_type: str


class _Retry(WharfError):
    """Another attempt may fare better."""

    kind = ErrorKind.UNAVAILABLE


@register("docker-push-pack")
def pack(call: Call) -> bytes:
    """The layer's archive, compressed, in the descriptor ``out``."""
    from isal import isal_zlib

    layer, out = call.document(PackLayer).layer, call.fds["out"]
    compressor = isal_zlib.compressobj(level=_LEVEL, wbits=_GZIP)
    archive, stored, size = hashlib.sha256(), hashlib.sha256(), 0
    for data in joined(layer):
        archive.update(data)
        size += _store(out, compressor.compress(data), stored)
    size += _store(out, compressor.flush(), stored)
    if f"sha256:{archive.hexdigest()}" != layer.diff_id:
        raise SystemError_(f"layer {layer.diff_id} cannot be put together from its files")
    return msgspec.msgpack.encode(Packed(f"sha256:{stored.hexdigest()}", size))


def _store(out: int, data: bytes, digest: hashlib._Hash) -> int:
    digest.update(data)
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]
    return len(data)


@register("docker-push-probe")
def probe(call: Call) -> bytes:
    from reexec.distribution.client import opened
    from reexec.distribution.transport import TransportError

    args = call.document(PushProbe)
    try:
        repository = opened(args.target)
        for blob in args.known:
            if blob.source:
                found = _mounted(repository, blob)
            else:
                found = _exists(repository, blob.digest)
            if found:
                return msgspec.msgpack.encode(Probed(repository.session, blob.digest, blob.source))
    except TransportError as error:
        # Who cannot be reached at the beginning is not asked again, as with dockerd.
        raise (_Retry if args.known else SystemError_)(str(error)) from error
    return msgspec.msgpack.encode(Probed(repository.session))


def _exists(repository: Repository, digest: str) -> bool:
    from reexec.distribution import failures
    from reexec.distribution.transport import finish

    response = repository.request("HEAD", repository.url(f"blobs/{digest}"))
    if response.status in (200, 404):
        finish(response)
        return response.status == 200
    raise failures.of(response).told()


def _mounted(repository: Repository, blob: KnownBlob) -> bool:
    from urllib.parse import urlencode

    from reexec.distribution.transport import finish

    query = urlencode({"mount": blob.digest, "from": blob.source})
    response = repository.request("POST", repository.url(f"blobs/uploads/?{query}"))
    finish(response)
    if response.status == 202 and (location := response.headers.get("Location")):
        # The registry has begun an upload instead, which nobody will continue.
        finish(repository.request("DELETE", repository.absolute(location)))
    return response.status == 201


@register("docker-push-blob")
def blob(call: Call) -> bytes:
    """The file in the descriptor ``in`` as a blob, unless it is there; its offset tells how far it is."""
    from reexec.distribution.client import opened
    from reexec.distribution.transport import TransportError

    args, source = call.document(PushBlob), call.fds["in"]
    try:
        repository = opened(args.target)
        existed = _exists(repository, args.digest)
        if not existed:
            _upload(repository, args, source)
    except TransportError as error:
        raise _Retry(str(error)) from error
    return msgspec.msgpack.encode(Pushed(repository.session, existed))


def _upload(repository: Repository, args: PushBlob, source: int) -> None:
    from reexec.distribution import failures
    from reexec.distribution.transport import finish

    response = repository.request("POST", repository.url("blobs/uploads/"))
    if response.status != 202:
        raise failures.of(response).told()
    finish(response)
    location = repository.absolute(response.headers.get("Location", ""))
    os.lseek(source, 0, os.SEEK_SET)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(args.size)}
    url = f"{location}{'&' if '?' in location else '?'}digest={args.digest}"
    response = repository.request("PUT", url, headers, _blocks(source))
    if response.status != 201:
        raise failures.of(response).told()
    finish(response)


def _blocks(source: int) -> Iterator[bytes]:
    while data := os.read(source, _BLOCK):
        yield data


@register("docker-push-manifest")
def manifest(call: Call) -> bytes:
    """The document in the descriptor ``in`` as the manifest of a tag."""
    from reexec.distribution import failures
    from reexec.distribution.client import opened
    from reexec.distribution.transport import finish

    args, source = call.document(PushManifest), call.fds["in"]
    data = os.pread(source, os.fstat(source).st_size, 0)
    repository = opened(args.target)
    url = repository.url(f"manifests/{args.reference}")
    response = repository.request("PUT", url, {"Content-Type": args.media_type}, data)
    if response.status not in (200, 201):
        raise failures.of(response).told()
    finish(response)
    return msgspec.msgpack.encode(Pushed(repository.session, False))
