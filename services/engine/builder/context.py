"""The build context: what the client sends or a URL names, in a directory of the build's own."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reexec.archive.rootfs import RootSpec
from reexec.distribution.proxies import masked
from reexec.helpers.download import Download, Downloaded
from reexec.helpers.remove import remove_in_use
from reexec.helpers.untar import Untar
from services.engine.builder import git
from services.engine.builder.ignore import Ignore, leave_out
from services.engine.builder.scoped import resolve
from services.engine.helpers import Helpers, ask, document
from services.engine.scopes import settled, shielded
from services.protocol.errors import InvalidParameter, SystemError_, WharfError

log = logging.getLogger(__name__)

PREFIX = "build-"
_GONE = "gone-"
DEFAULT_NAME = "Dockerfile"
#: Says that the client sends the context by BuildKit's session.
_SESSION = "client-session"
_IGNORE_FILE = ".dockerignore"
#: Bytes of the largest Dockerfile.
_DOCKERFILE_LIMIT = 4 * 1024 * 1024
_TEXT, _BINARY = "text/plain", "application/octet-stream"
#: What a remote context may be (moby ``builder/remotecontext/remote.go``), and zstd.
_ACCEPTED = re.compile(r"text/plain|application/(octet-stream|(x-)?(tar|gzip|bzip2?|xz|zstd))")
#: Bytes that tell a text from an archive, and where a tar archive says that it is one.
_PREAMBLE, _USTAR_AT = 100, 257
#: Byte order marks (UTF-16 and UTF-8).
_TEXT_MARKS = (b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf")


@dataclass(frozen=True)
class Filled:
    """``dockerfile`` is the text; ``owners`` as :func:`unpack` returns them, None without a context."""

    dockerfile: str
    owners: str | None


@dataclass(frozen=True)
class Fetched:
    """A downloaded file and its MIME type."""

    path: str
    kind: str


def left(directory: Path) -> list[str]:
    """Start-up: names of what builds had when a crash ended them, without what was being removed."""
    return sorted(path.name for path in directory.glob(PREFIX + "*"))


def sweep(directory: Path, names: Iterable[str]) -> None:
    """Start-up: remove those *names*, and what was being removed."""
    for path in [*(directory / name for name in names), *directory.glob(_GONE + "*")]:
        _remove(path)


@asynccontextmanager
async def scratch(directory: Path) -> AsyncIterator[Path]:
    """A directory below *directory*, gone at the end."""
    made = Path(await settled(asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIX, dir=directory)))
    try:
        yield made
    finally:
        await shielded(asyncio.to_thread(_remove, made))


def _remove(directory: Path) -> None:
    """However deep it is nested, and although a helper that is being killed still writes to it. What cannot
    go is left to the next start.

    It has another name first: a build that has come to its end is none that a crash has ended.
    """
    gone = directory
    if not directory.name.startswith(_GONE):
        gone = directory.with_name(_GONE + directory.name)
        with suppress(FileNotFoundError):
            os.rename(directory, gone)
    try:
        remove_in_use(str(gone))
    except (OSError, SystemError_) as error:
        log.error("%s is left to the next start: %s", gone.name, error)


async def unpack(helpers: Helpers, directory: Path, fd: int) -> str:
    """The archive of *fd* below *directory*, by a helper confined there. Raises for a broken archive,
    one with devices, and one with names outside of it.

    Returns a digest of the owners' names in the archive, which Docker's cache tells apart."""
    arguments = Untar(root=RootSpec(directory=str(directory)), path="/", devices=False)
    return await ask(helpers, document("docker-untar", arguments), str, {"stdin": fd})


async def fill(helpers: Helpers, tmp: Path, directory: Path, remote: str, dockerfile: str, fd: int) -> Filled:
    """The context from *remote*, else from the archive in *fd*, below *directory*, which is empty.

    Raises for what is no context and for a Dockerfile that is not there, empty or too large.
    """
    if remote == _SESSION:
        raise InvalidParameter(
            "experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) "
            "instead"
        )
    if not remote:
        owners = await unpack(helpers, directory, fd)
    elif git.is_git(remote):
        async with scratch(tmp) as place:
            checkout = await git.clone(helpers, remote, place)
            await shielded(asyncio.to_thread(os.rename, checkout.path, directory))
            owners = ""
        await asyncio.to_thread(_apply_ignore_file, directory, dockerfile)
    elif remote.startswith(("http://", "https://")):
        async with scratch(tmp) as place:
            path = await _download(helpers, place, remote)
            if path.kind == _TEXT:
                return Filled(await asyncio.to_thread(_read, path.path, dockerfile), None)
            owners = await _unpack_file(helpers, directory, path.path)
        await asyncio.to_thread(_apply_ignore_file, directory, dockerfile)
    else:
        raise SystemError_(f"remoteURL ({remote}) could not be recognized as URL")
    return Filled(await asyncio.to_thread(read_dockerfile, directory, dockerfile), owners)


async def _download(helpers: Helpers, place: Path, url: str) -> Fetched:
    """Raises in dockerd's words ("error downloading remote context ...")."""
    arguments = document("docker-download", Download(url, str(place), "context"))
    try:
        found = await ask(helpers, arguments, Downloaded)
    except WharfError as error:
        raise type(error)(f"error downloading remote context {masked(url)}: {error}") from error
    try:
        return Fetched(found.path, await asyncio.to_thread(_kind, found.path, found.content_type))
    except WharfError as error:
        raise type(error)(f"error detecting content type for remote {masked(url)}: {error}") from error


def _kind(path: str, told: str) -> str:
    """The MIME type: what the server says, unless it says that it does not know."""
    with open(path, "rb") as file:
        head = file.read(_USTAR_AT + 5)
    if not head:
        raise SystemError_("empty response")
    kind = told.partition(";")[0].strip().lower()
    if kind in ("", _BINARY):
        kind = _BINARY if head[_USTAR_AT:] == b"ustar" or _is_binary(head[:_PREAMBLE]) else _TEXT
    if not _ACCEPTED.fullmatch(kind):
        raise SystemError_(f'unsupported Content-Type "{told}"')
    return kind


def _is_binary(head: bytes) -> bool:
    """As the WHATWG MIME sniffing standard has it, section 7.1: bytes that no text has."""
    if head.startswith(_TEXT_MARKS):
        return False
    return any(byte < 0x20 and byte not in b"\t\n\x0c\r\x1b" for byte in head)


async def _unpack_file(helpers: Helpers, directory: Path, path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return await unpack(helpers, directory, fd)
    finally:
        os.close(fd)


def _apply_ignore_file(directory: Path, dockerfile: str) -> None:
    """The docker command leaves excluded files out of an archive; others' archives have them all."""
    if (ignore := _ignore(directory)) is not None:
        leave_out(directory, ignore, {_IGNORE_FILE, os.path.normpath(dockerfile), dockerfile.lower()})


def _ignore(directory: Path) -> Ignore | None:
    path = resolve(directory, _IGNORE_FILE)
    if not os.path.isfile(path) or os.path.getsize(path) > _DOCKERFILE_LIMIT:
        return None
    return Ignore(Path(path).read_text(encoding="utf-8", errors="replace"))


def read_dockerfile(directory: Path, name: str) -> str:
    """The Dockerfile's text; the file itself goes when ``.dockerignore`` has it (a client sends it
    nevertheless). Raises ``SystemError_`` (dockerd's status) when it is not there, ``InvalidParameter``
    when it is empty or too large."""
    path = resolve(directory, name)
    if name == DEFAULT_NAME and not os.path.lexists(path):
        path = resolve(directory, name.lower())
    if os.path.normpath(name.lstrip("/")).split("/")[0] == "..":
        raise SystemError_(f"forbidden path outside the build context: {name} ()")
    if not os.path.isfile(path):
        raise SystemError_(f"Cannot locate specified Dockerfile: {name}")
    text = _read(path, name)
    ignore = None
    with suppress(InvalidParameter):  # the client refuses what is broken; dockerd passes over it
        ignore = _ignore(directory)
    if ignore is not None:
        for own in (_IGNORE_FILE, os.path.normpath(f"/{name}").lstrip("/")):
            if ignore.excludes(own):
                _leave(directory, own)
    return text


def _leave(directory: Path, name: str) -> None:
    """Delete the file *name* of the context: the client chose the name, and links on its way may lead
    anywhere."""
    parent, base = os.path.split(name)
    path = os.path.join(resolve(directory, parent), base)
    with suppress(FileNotFoundError, NotADirectoryError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)


def _read(path: str, name: str) -> str:
    if os.path.getsize(path) > _DOCKERFILE_LIMIT:
        raise InvalidParameter(f"the Dockerfile ({name}) is too large")
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    if not text:
        raise InvalidParameter(f"the Dockerfile ({name}) cannot be empty")
    return text
