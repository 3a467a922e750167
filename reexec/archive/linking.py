"""A tree into another by hard links: what a layer takes from a build's context is not written again.

Works on descriptors, of directories on one mount; no link is followed on either side. A file whose owner
has to be another is copied, as is one that cannot be linked. Directories are made: their times are theirs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass

from reexec.archive.extract import OVERLAY_OPAQUE
from reexec.archive.pack import XATTRS

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Bytes of one copy_file_range.
_CHUNK = 1 << 30


def open_below(top: int, path: str) -> int:
    """A descriptor of the directory *path* below *top*. Raises ``OSError``, also for a link."""
    here = os.dup(top)
    for part in path.split("/"):
        if part in ("", "."):
            continue
        try:
            below = os.open(part, _DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


@dataclass(frozen=True)
class Linker:
    """Into the upper directory of an overlay that nobody has mounted; all will belong to *owner*."""

    owner: tuple[int, int]

    def tree(self, source: int, target: int) -> None:
        """Everything below the directory *source* into the directory *target*."""
        for name in sorted(os.listdir(source)):
            found = os.lstat(name, dir_fd=source)
            if not stat.S_ISDIR(found.st_mode):
                self.file(source, name, target, name)
                continue
            below = os.open(name, _DIRECTORY, dir_fd=source)
            made = self._directory(target, name, found)
            try:
                self.tree(below, made)
                _copy_attributes(below, made)
                os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
            finally:
                os.close(below)
                os.close(made)

    def _directory(self, target: int, name: str, like: os.stat_result) -> int:
        try:
            os.mkdir(name, 0o700, dir_fd=target)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=target).st_mode):
                # It hid what lies below the layer, and so must what replaces it.
                os.unlink(name, dir_fd=target)
                os.mkdir(name, 0o700, dir_fd=target)
                fd = os.open(name, _DIRECTORY, dir_fd=target)
                os.setxattr(fd, OVERLAY_OPAQUE, b"y")
                os.close(fd)
        fd = os.open(name, _DIRECTORY, dir_fd=target)
        os.chown(fd, *self.owner)
        os.chmod(fd, stat.S_IMODE(like.st_mode))
        return fd

    def file(self, source: int, name: str, target: int, new: str) -> None:
        """*name* in *source*, which is no directory, as *new* in *target*."""
        found = os.lstat(name, dir_fd=source)
        if stat.S_ISSOCK(found.st_mode):
            return  # a socket has no place in an archive, and so none in a layer
        self._make_room(target, new)
        if (found.st_uid, found.st_gid) == self.owner:
            with contextlib.suppress(OSError):  # too many links, another file system
                os.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                return
        self._copy(source, name, target, new, found)

    @staticmethod
    def _make_room(target: int, name: str) -> None:
        try:
            found = os.lstat(name, dir_fd=target)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(name, dir_fd=target)
        else:
            os.unlink(name, dir_fd=target)

    def _copy(self, source: int, name: str, target: int, new: str, found: os.stat_result) -> None:
        mode = stat.S_IMODE(found.st_mode)
        times = (found.st_atime_ns, found.st_mtime_ns)
        if stat.S_ISREG(found.st_mode):
            reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            writing = os.open(new, flags, 0o600, dir_fd=target)
            try:
                while os.copy_file_range(reading, writing, _CHUNK):
                    pass
                os.chown(writing, *self.owner)
                os.chmod(writing, mode)
                _copy_attributes(reading, writing)
                os.utime(writing, ns=times)
            finally:
                os.close(reading)
                os.close(writing)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=target)
        else:
            os.mknod(new, found.st_mode, found.st_rdev, dir_fd=target)
        os.chown(new, *self.owner, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(new, mode, dir_fd=target)
        os.utime(new, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_attributes(source: int, target: int) -> None:
    """Those that an archive carries."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            if name.startswith(XATTRS):
                os.setxattr(target, name, os.getxattr(source, name))
