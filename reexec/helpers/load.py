"""``docker-load DIRECTORY``: take the archive of ``docker load`` apart, without believing its names.

Every file becomes a numbered file of DIRECTORY; the result says which name is which number. Links of
old archives are resolved here, so nobody has to follow a path that a stranger has written.
"""

from __future__ import annotations

import os
import posixpath
import tarfile

import msgspec

from reexec.archive.bounds import Bounded
from reexec.archive.filling import fill
from reexec.archive.streams import BLOCK, FdSource, decompressed
from reexec.archive.tarfmt import Data, members
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter

_MAX_LINKS = 16


class Loaded(msgspec.Struct, frozen=True):
    """``files``: name in the archive -> number; ``sizes`` in bytes by number."""

    files: dict[str, int]
    sizes: list[int]


@register("docker-load")
def main(call: Call) -> bytes:
    """The result can be larger than a message: it goes to the descriptor ``index`` where given."""
    if len(call.argv) != 2:
        raise InvalidParameter("usage: docker-load DIRECTORY")
    result = msgspec.msgpack.encode(unpack(call.argv[1], call.fds.get("stdin", 0)))
    if (index := call.fds.get("index")) is not None:
        os.write(index, result)
        return b""
    return result


def unpack(directory: str, fd: int) -> Loaded:
    """Files of the archive at *fd* into *directory*."""
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        raw = FdSource(fd)
        return _unpack(Bounded(decompressed(raw), raw, top), directory)
    finally:
        os.close(top)


def _unpack(source: Bounded, directory: str) -> Loaded:
    files: dict[str, int] = {}
    links: dict[str, str] = {}
    sizes: list[int] = []
    for info, reader in members(source):
        name = _clean(info.name)
        if reader is not None:
            links.pop(name, None)
            files[name] = len(sizes)
            _copy(info, reader, os.path.join(directory, str(len(sizes))))
            sizes.append(info.size)
        elif info.issym():
            files.pop(name, None)
            links[name] = _clean(posixpath.join(posixpath.dirname(name), info.linkname))
        elif info.islnk():
            files.pop(name, None)
            links[name] = _clean(info.linkname)
    while source.read(BLOCK):
        pass  # the sender must not see its pipe closed early
    for name in links:
        if (number := _follow(name, links, files)) is not None:
            files[name] = number
    return Loaded(files, sizes)


def _clean(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _follow(name: str, links: dict[str, str], files: dict[str, int]) -> int | None:
    for _ in range(_MAX_LINKS):
        if name in files:
            return files[name]
        if name not in links:
            return None
        name = links[name]
    return None


def _copy(info: tarfile.TarInfo, reader: Data, path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fill(info, reader, fd)
    finally:
        os.close(fd)
