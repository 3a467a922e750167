"""``docker-stat JSON``: what a path of a root file system is (``docker cp`` asks before it copies)."""

from __future__ import annotations

import os
import stat

import msgspec

from reexec.archive.rootfs import RootSpec, enter
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import SystemError_

#: Kind of file -> bit of Go's ``fs.FileMode``.
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
}
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


class Stat(msgspec.Struct, frozen=True):
    """``path`` is taken as it is, from the root where it is relative."""

    root: RootSpec
    path: str


class Found(msgspec.Struct, frozen=True):
    """``mode`` is Go's; ``mtime`` Unix nanoseconds. ``link_target`` is absolute inside the root."""

    size: int
    mode: int
    mtime: int
    link_target: str


@register("docker-stat")
def main(call: Call) -> bytes:
    """The result is a list of one, of none where nothing is; what cannot be looked for is an error."""
    args = call.document(Stat)
    enter(args.root)
    path = os.path.join("/", args.path)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return msgspec.msgpack.encode([])
    except OSError as error:
        raise cannot_look(args.path, error) from error
    target = os.path.realpath(path) if stat.S_ISLNK(found.st_mode) else ""
    return msgspec.msgpack.encode([Found(found.st_size, go_mode(found.st_mode), found.st_mtime_ns, target)])


def cannot_look(path: str, error: OSError) -> SystemError_:
    """*error* of ``lstat`` in Go's words."""
    return SystemError_(f"lstat {path}: {(error.strerror or '').lower()}")


def go_mode(mode: int) -> int:
    """Go's ``os.FileMode`` of ``st_mode``."""
    bits = sum(go for unix, go in _GO_BITS.items() if mode & unix)
    return (mode & 0o777) | bits | _GO_KINDS.get(stat.S_IFMT(mode), 0)
