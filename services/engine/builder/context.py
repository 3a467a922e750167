"""The build context: an archive of the client's or from a URL, as a directory of the build's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reexec.archive.rootfs import RootSpec
from reexec.helpers.download import Download, Downloaded
from reexec.helpers.untar import Untar
from services.engine.builder.ignore import Ignore
from services.engine.helpers import Helpers, ask, document
from services.engine.scopes import shielded
from services.protocol.errors import InvalidParameter, Unimplemented

PREFIX = "build-"
DEFAULT_NAME = "Dockerfile"
_IGNORE_FILE = ".dockerignore"
#: Bytes of the largest Dockerfile.
_DOCKERFILE_LIMIT = 4 * 1024 * 1024
#: Links that are followed in one path, as in the kernel.
_MAX_LINKS = 40
_COMPRESSED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_USTAR_AT = 257


def left(directory: Path) -> list[str]:
    """Start-up: names of what builds had when a crash ended them."""
    return sorted(path.name for path in directory.glob(PREFIX + "*"))


def sweep(directory: Path, name: str) -> None:
    shutil.rmtree(directory / name, ignore_errors=True)


@asynccontextmanager
async def scratch(directory: Path) -> AsyncIterator[Path]:
    """A directory below *directory*, gone at the end."""
    made = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIX, dir=directory))
    try:
        yield made
    finally:
        await shielded(asyncio.to_thread(shutil.rmtree, made, ignore_errors=True))


async def unpack(helpers: Helpers, directory: Path, fd: int) -> str:
    """The archive of *fd* below *directory*, by a helper confined there. Raises for a broken archive,
    one with devices, and one with names outside of it.

    Returns a digest of the owners' names in the archive, which Docker's cache tells apart."""
    arguments = Untar(root=RootSpec(directory=str(directory)), path="/", devices=False)
    return await ask(helpers, document("docker-untar", arguments), str, {"stdin": fd})


async def fetch(helpers: Helpers, tmp: Path, directory: Path, url: str, dockerfile: str) -> str:
    """The context at *url*: an archive, or a Dockerfile alone; returns as :func:`unpack`.

    Raises ``InvalidParameter``.
    """
    if not url.startswith(("http://", "https://")) or url.split("#")[0].endswith(".git"):
        raise Unimplemented(f"building from a git repository is not implemented: {url}")
    async with scratch(tmp) as place:
        arguments = document("docker-download", Download(url, str(place), "context"))
        try:
            found = await ask(helpers, arguments, Downloaded)
        except InvalidParameter as error:
            raise InvalidParameter(f"error downloading remote context {url}: {error}") from error
        fd = os.open(found.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.pread(fd, _USTAR_AT + 5, 0)
            if head.startswith(_COMPRESSED) or head[_USTAR_AT:] == b"ustar":
                owners = await unpack(helpers, directory, fd)
                await asyncio.to_thread(_apply_ignore_file, directory)
                return owners
            if b"\0" in head:
                raise InvalidParameter(
                    f"error downloading remote context {url}: neither an archive nor a text"
                )
            await asyncio.to_thread(shutil.move, found.path, directory / os.path.basename(dockerfile))
            return ""
        finally:
            os.close(fd)


def _apply_ignore_file(directory: Path) -> None:
    """The docker command leaves excluded files out of an archive; others' archives have them all."""
    if (ignore := _ignore(directory)) is None:
        return
    for top, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(top, name)
            relative = os.path.relpath(path, directory)
            if relative not in (_IGNORE_FILE, DEFAULT_NAME) and ignore.excludes(relative):
                os.unlink(path)
    for top, names, _ in os.walk(directory, topdown=False):
        for name in names:
            path = os.path.join(top, name)
            if ignore.excludes(os.path.relpath(path, directory)) and not os.path.islink(path):
                _remove_if_empty(path)


def _remove_if_empty(path: str) -> None:
    if not os.listdir(path):
        os.rmdir(path)


def _ignore(directory: Path) -> Ignore | None:
    path = resolve(directory, _IGNORE_FILE)
    if not os.path.isfile(path) or os.path.getsize(path) > _DOCKERFILE_LIMIT:
        return None
    return Ignore(Path(path).read_text(encoding="utf-8", errors="replace"))


def read_dockerfile(directory: Path, name: str) -> str:
    """The Dockerfile's text; the file itself goes when ``.dockerignore`` has it (a client sends it
    nevertheless). Raises ``InvalidParameter`` when it is not there, empty or too large."""
    path = resolve(directory, name)
    if name == DEFAULT_NAME and not os.path.lexists(path):
        path = resolve(directory, name.lower())
    if not os.path.isfile(path):
        raise InvalidParameter(f"Cannot locate specified Dockerfile: {name}")
    if os.path.getsize(path) > _DOCKERFILE_LIMIT:
        raise InvalidParameter(f"the Dockerfile ({name}) is too large")
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    if not text:
        raise InvalidParameter(f"the Dockerfile ({name}) cannot be empty")
    if (ignore := _ignore(directory)) is not None:
        for own in (_IGNORE_FILE, os.path.normpath(name)):
            if ignore.excludes(own) and not os.path.isdir(directory / own):
                (directory / own).unlink(missing_ok=True)
    return text


def resolve(root: Path, name: str) -> str:
    """*name* below *root* with links followed as if *root* were ``/``: nothing leads out of it.

    Nobody changes a context while it is read, so this is safe without a ``chroot``.
    """
    done, pending, links = "", [part for part in name.split("/") if part], 0
    while pending:
        part = pending.pop(0)
        if part == ".":
            continue
        if part == "..":
            done = os.path.dirname(done)
            continue
        path = f"{root}{done}/{part}"
        if not os.path.islink(path):
            done += f"/{part}"
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InvalidParameter(f"too many links: {name}")
        target = os.readlink(path)
        pending = [piece for piece in target.split("/") if piece] + pending
        done = "" if target.startswith("/") else done
    return f"{root}{done}"
