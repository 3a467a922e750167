"""``docker-pull-manifest JSON`` and ``docker-pull-blob JSON``: read from a registry into a descriptor.

The engine watches a blob's progress by the size of its file, and repeats a helper that fails: what is in
the file already is digested and the rest asked for.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import msgspec

from reexec.call import Call
from reexec.distribution.model import MANIFESTS, MAX_MANIFEST, Endpoint, Session, Target
from reexec.registry import register
from services.protocol.errors import ErrorKind, InvalidParameter, SystemError_, WharfError

if TYPE_CHECKING:
    from reexec.distribution.transport import Response

_BLOCK = 256 << 10
#: A repository may page for ever; nobody pulls more tags than these.
_MAX_TAGS, _MAX_PAGES = 100_000, 1000


class PullManifest(msgspec.Struct, frozen=True):
    """``reference`` is a tag or a digest; content of a digest in ``known`` is not read again."""

    target: Target
    reference: str
    known: list[str] = []


class PulledManifest(msgspec.Struct, frozen=True):
    """The manifest is in the descriptor ``out``, unless it is ``known``.

    With ``refused`` the registry has answered and said no: ``code`` as it names it.
    """

    session: Session
    digest: str = ""
    media_type: str = ""
    size: int = 0
    known: bool = False
    refused: str = ""
    code: str = ""
    kind: str = ""


class PullBlob(msgspec.Struct, frozen=True):
    """``size`` in bytes is what it must have, -1 if that is unknown; more than ``limit`` is not read."""

    target: Target
    digest: str
    size: int = -1
    limit: int = -1


class Pulled(msgspec.Struct, frozen=True):
    session: Session
    size: int


class _TagPage(msgspec.Struct):
    tags: list[str] | None = None


class Mismatch(InvalidParameter):
    """The content is not what its digest says: another attempt would fetch the same."""


@register("docker-pull-manifest")
def manifest(call: Call) -> bytes:
    """Endpoints that are only preferred (mirrors) are left when they do not have it."""
    args = call.document(PullManifest)
    endpoints = args.target.endpoints
    while True:
        found = _manifest(args, endpoints, call.fds["out"])
        rest = _after(endpoints, found.session)
        if not found.refused or not found.session.endpoint.fallback or not rest:
            return msgspec.msgpack.encode(found)
        endpoints = rest


def _after(endpoints: list[Endpoint], session: Session) -> list[Endpoint]:
    return endpoints[endpoints.index(session.endpoint) + 1 :]


def _manifest(args: PullManifest, endpoints: list[Endpoint], out: int) -> PulledManifest:
    from reexec.distribution import failures
    from reexec.distribution.client import opened
    from reexec.distribution.transport import finish

    repository = opened(msgspec.structs.replace(args.target, endpoints=endpoints))
    url = repository.url(f"manifests/{args.reference}")
    headers = {"Accept": ", ".join(MANIFESTS)}
    digest = args.reference if ":" in args.reference else ""
    if digest in args.known:
        return PulledManifest(repository.session, digest, known=True)
    if not digest:
        response = repository.request("HEAD", url, headers)
        finish(response)
        if response.status == 200:
            digest = response.headers.get("Docker-Content-Digest", "")
        if digest in args.known:
            return PulledManifest(repository.session, digest, known=True)
        if digest:
            url = repository.url(f"manifests/{digest}")
    response = repository.request("GET", url, headers)
    if response.status != 200:
        error = failures.of(response, "MANIFEST_UNKNOWN")
        told = error.told()
        return PulledManifest(repository.session, refused=str(told), code=error.code, kind=str(told.kind))
    data = read_all(response, MAX_MANIFEST)
    actual = "sha256:" + hashlib.sha256(data).hexdigest()
    if digest.startswith("sha256:") and digest != actual:
        raise SystemError_(f"manifest verification failed for digest {digest}")
    os.pwrite(out, data, 0)
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return PulledManifest(repository.session, digest or actual, media_type, len(data))


def read_all(response: Response, limit: int) -> bytes:
    """The body of an answer. Raises :class:`TransportError`, and ``SystemError_`` beyond *limit* bytes."""
    from urllib3.exceptions import HTTPError

    from reexec.distribution import gowords
    from reexec.distribution.transport import TransportError

    parts, size = [], 0
    try:
        while data := response.read(_BLOCK):
            size += len(data)
            if size > limit:
                raise SystemError_(f"the registry's answer is larger than {limit} bytes")
            parts.append(data)
    except (HTTPError, OSError) as error:
        raise TransportError(gowords.reading(error)) from error
    response.release_conn()
    return b"".join(parts)


class PullTags(msgspec.Struct, frozen=True):
    target: Target


@register("docker-pull-tags")
def tags(call: Call) -> bytes:
    """All tags of a repository, a JSON list in the descriptor ``out``."""
    from reexec.distribution import failures
    from reexec.distribution.client import opened

    repository = opened(call.document(PullTags).target)
    found: list[str] = []
    pages = 0
    url = repository.url("tags/list")
    while url:
        response = repository.request("GET", url)
        if response.status != 200:
            error = failures.of(response, "NAME_UNKNOWN")
            told = error.told()
            refused = PulledManifest(
                repository.session, refused=str(told), code=error.code, kind=str(told.kind)
            )
            return msgspec.msgpack.encode(refused)
        try:
            page = msgspec.json.decode(read_all(response, MAX_MANIFEST), type=_TagPage)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise SystemError_(f"invalid list of tags: {error}") from error
        found += page.tags or []
        pages += 1
        if pages > _MAX_PAGES:
            raise SystemError_("invalid list of tags: it has no end")
        link = response.headers.get("Link", "")
        more = link.startswith("<") and ">" in link and len(found) < _MAX_TAGS
        url = repository.absolute(link[1 : link.index(">")]) if more else ""
    data = msgspec.json.encode(sorted(found))
    os.pwrite(call.fds["out"], data, 0)
    return msgspec.msgpack.encode(PulledManifest(repository.session, size=len(data)))


@register("docker-pull-blob")
def blob(call: Call) -> bytes:
    """The blob in the descriptor ``out``, whole, verified and synced.

    Fails with kind ``unavailable`` where another attempt may go on, with ``invalid-parameter`` when
    the content is not the digest's (and empties the file).
    """
    from reexec.distribution.transport import TransportError

    args, out = call.document(PullBlob), call.fds["out"]
    try:
        return msgspec.msgpack.encode(_blob(args, out))
    except Mismatch:
        os.ftruncate(out, 0)
        raise
    except TransportError as error:
        raise _Retry(str(error)) from error


class _Retry(WharfError):
    kind = ErrorKind.UNAVAILABLE


def _blob(args: PullBlob, out: int) -> Pulled:
    from urllib3.exceptions import HTTPError

    from reexec.distribution import failures, gowords
    from reexec.distribution.client import opened
    from reexec.distribution.transport import TransportError

    algorithm, _, _ = args.digest.partition(":")
    try:
        digest = hashlib.new(algorithm)
    except ValueError:
        raise Mismatch(f"unsupported digest algorithm: {algorithm}") from None
    have = _digest_existing(out, digest)
    if args.size >= 0 and have > args.size:
        raise Mismatch(args.digest)
    repository = opened(args.target)
    if have != args.size or not have:
        headers = {"Range": f"bytes={have}-"} if have else {}
        response = repository.request("GET", repository.url(f"blobs/{args.digest}"), headers)
        if response.status == 416 and have:
            # There is nothing behind what we have: it is whole, or it is another thing.
            os.ftruncate(out, 0)
            raise TransportError("the registry does not resume the download")
        if response.status not in (200, 206):
            raise failures.of(response, "BLOB_UNKNOWN").told()
        if have and (response.status == 200 or not _resumes(response, have)):
            have, digest = 0, hashlib.new(algorithm)
            os.ftruncate(out, 0)
            if response.status == 206:
                response.close()
                raise TransportError("the registry does not resume the download")
        os.lseek(out, have, os.SEEK_SET)
        limit = args.size if args.size >= 0 else args.limit
        try:
            while data := response.read(_BLOCK):
                digest.update(data)
                have += len(data)
                if 0 <= limit < have:
                    raise Mismatch(args.digest)
                _write(out, data)
        except (HTTPError, OSError) as error:
            if (
                isinstance(error, OSError)
                and error.errno is not None
                and not isinstance(error, ConnectionError)
            ):
                raise SystemError_(f"write blob: {gowords.errno_text(error)}") from error
            raise TransportError(gowords.reading(error)) from error
        if 0 <= have < args.size:
            raise TransportError("unexpected EOF")
    if digest.hexdigest() != args.digest.partition(":")[2]:
        raise Mismatch(args.digest)
    return Pulled(repository.session, have)


def _resumes(response: Response, have: int) -> bool:
    """The answer begins where we are."""
    begin = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return begin == str(have)


def _digest_existing(out: int, digest: hashlib._Hash) -> int:
    have = 0
    while data := os.pread(out, _BLOCK, have):
        digest.update(data)
        have += len(data)
    return have


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
