"""Tree -> tar, as root, in PAX format: owners, modes, whole seconds, attributes, hard links, devices.

Fractions of seconds are cut off as dockerd does: they would cost each entry a header of its own.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from reexec.archive.streams import BLOCK
from reexec.archive.syscalls import is_kernel_view
from reexec.archive.tarfmt import XATTR_PREFIX

#: Attributes an archive carries (moby: capabilities and what users set themselves).
XATTRS = ("security.capability", "user.")
_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}
#: A running container goes on while it is read: a path, or one above it, is no more.
_GONE = (FileNotFoundError, NotADirectoryError)


class Sink(Protocol):
    def write(self, data: bytes | memoryview, /) -> int: ...


def _opened(path: str) -> int:
    """A descriptor of a regular file. Raises ``FileNotFoundError`` if *path* is another thing now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return fd


@dataclass
class Packer:
    """Writes entries to *sink*; :meth:`close` ends the archive.

    Below the top, the kernel's views (/proc, /sys) are written empty: their files vanish and change
    size while they are read. With *one_filesystem* directories on other file systems are written
    empty, as they are below what is mounted on them. *leave_out* is asked by name; what is below
    something left out is asked for, too, unless *prune* is set. *change_mode* makes the permission bits.
    No time is after *newest* (Unix seconds).
    """

    sink: Sink
    one_filesystem: bool = False
    leave_out: Callable[[str], bool] | None = None
    prune: bool = True
    change_mode: Callable[[int, bool], int] | None = None
    newest: int | None = None
    _links: dict[tuple[int, int], str] = field(default_factory=dict)
    _written: int = 0

    def add(self, path: str, name: str) -> None:
        """*path* and everything below it as *name* ("" is the top: only what is below is written)."""
        device = os.lstat(path).st_dev
        # A list for a stack: trees can be deeper than Python's recursion.
        pending = [(path, name)]
        while pending:
            path, name = pending.pop()
            try:
                found = os.lstat(path)
            except _GONE:
                continue
            left_out = self.leave_out is not None and name != "" and self.leave_out(name)
            if left_out and self.prune:
                continue
            foreign = found.st_dev != device and stat.S_ISDIR(found.st_mode) and self._is_left_out(path)
            if name and not left_out:
                self._entry(path, name, found)
            if stat.S_ISDIR(found.st_mode) and not foreign:
                pending.extend(self._below(path, name))

    def _is_left_out(self, path: str) -> bool:
        """Of a directory on another file system. What /proc and /sys show is not the container's."""
        try:
            return self.one_filesystem or is_kernel_view(path)
        except _GONE:
            return True

    def one(self, path: str, name: str) -> None:
        """*path* alone."""
        try:
            self._entry(path, name, os.lstat(path))
        except _GONE:
            return

    @staticmethod
    def _below(path: str, name: str) -> list[tuple[str, str]]:
        try:
            names = sorted(os.listdir(path), reverse=True)
        except _GONE:
            return []
        prefix = f"{name.removesuffix('/')}/" if name else ""
        return [(os.path.join(path, entry), prefix + entry) for entry in names]

    def _entry(self, path: str, name: str, found: os.stat_result) -> None:
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            return  # a socket has no place in an archive
        info = tarfile.TarInfo(name)
        info.type, info.mode = kind, stat.S_IMODE(found.st_mode)
        if self.change_mode is not None and kind != tarfile.SYMTYPE:
            info.mode = self.change_mode(info.mode, kind == tarfile.DIRTYPE)
        info.uid, info.gid = found.st_uid, found.st_gid
        info.mtime = found.st_mtime_ns // 1_000_000_000
        if self.newest is not None:
            info.mtime = min(info.mtime, self.newest)
        fd = -1
        try:
            if kind == tarfile.REGTYPE:
                first = self._links.get((found.st_dev, found.st_ino), name)
                if first != name:
                    info.type, info.linkname = tarfile.LNKTYPE, first
                else:
                    fd = _opened(path)
                    info.size = os.fstat(fd).st_size
                    if found.st_nlink > 1:  # only now: others cannot be links to what has gone
                        self._links[found.st_dev, found.st_ino] = name
            elif kind == tarfile.SYMTYPE:
                info.linkname = os.readlink(path)
            elif kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
                info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)
            info.pax_headers = self._attributes(path)
            self._write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
            if fd >= 0:
                self._data(fd, info.size)
        except _GONE:
            return
        finally:
            if fd >= 0:
                os.close(fd)

    @staticmethod
    def _attributes(path: str) -> dict[str, str]:
        try:
            names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if n.startswith(XATTRS))
            values = [os.getxattr(path, name, follow_symlinks=False) for name in names]
        except OSError:
            return {}
        return {
            XATTR_PREFIX + name: value.decode("utf-8", "surrogateescape")
            for name, value in zip(names, values, strict=True)
        }

    def _data(self, fd: int, size: int) -> None:
        """Exactly *size* bytes, also of a file that changes meanwhile."""
        left = size
        while left:
            data = os.read(fd, min(left, BLOCK))
            if not data:
                data = b"\0" * min(left, BLOCK)
            self._write(data)
            left -= len(data)
        self._write(b"\0" * (-size % tarfile.BLOCKSIZE))

    def _write(self, data: bytes) -> None:
        if data:
            self.sink.write(data)
            self._written += len(data)

    def blob(self, name: str, data: bytes, *, mtime: int = 0, mode: int = 0o644) -> None:
        """A file that exists nowhere."""
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = len(data), mtime, mode
        self._write(info.tobuf(tarfile.PAX_FORMAT))
        self._write(data + b"\0" * (-len(data) % tarfile.BLOCKSIZE))

    def directory(self, name: str, *, mtime: int = 0, mode: int = 0o755) -> None:
        """A directory that exists nowhere."""
        info = tarfile.TarInfo(name)
        info.type, info.mtime, info.mode = tarfile.DIRTYPE, mtime, mode
        self._write(info.tobuf(tarfile.PAX_FORMAT))

    def close(self) -> None:
        self._write(b"\0" * (2 * tarfile.BLOCKSIZE))
