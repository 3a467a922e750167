"""A tree into another without writing it again: by moving its files, by hard links, or by the kernel.

Works on descriptors, of directories on one mount; no link is followed on either side. A file whose owner
has to be another is copied, as is one that cannot be linked or has other names. Directories are made.
"""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
import stat
from dataclasses import dataclass, field

from reexec.archive.extract import OVERLAY_OPAQUE
from reexec.archive.pack import XATTRS

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Bytes of one copy_file_range.
_CHUNK = 1 << 30
#: Files, and bytes, from which on a tree is large.
_MANY, _MUCH = 500, 32 << 20


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


class Way(enum.StrEnum):
    """How files get there."""

    #: The source is not needed any more.
    MOVE = "move"
    #: It is: what is large is linked, the rest copied. A link shows: as a count in ``ls -l``.
    SHARE = "share"
    #: It is, and what is copied may be there already under another name.
    COPY = "copy"


def is_large(fd: int) -> bool:
    """Whether the tree of the directory *fd* is more than what is copied in no time."""
    files, size = 0, 0
    for _, _, names, directory in os.fwalk(".", dir_fd=fd):
        files += len(names)
        if files > _MANY:
            return True
        size += sum(os.lstat(name, dir_fd=directory).st_size for name in names)
        if size > _MUCH:
            return True
    return False


@dataclass(frozen=True)
class Linker:
    """Into the upper directory of an overlay that nobody has mounted; all will belong to *owner*."""

    owner: tuple[int, int]
    way: Way
    #: Copies of files that have more links in the tree: (device, inode) -> path below its target.
    _copies: dict[tuple[int, int], str] = field(default_factory=dict)

    def tree(self, source: int, target: int) -> None:
        """Everything below the directory *source* into the directory *target*. One use."""
        self._tree(source, target, target, "")

    def _tree(self, source: int, target: int, top: int, path: str) -> None:
        for name in sorted(os.listdir(source)):
            found = os.lstat(name, dir_fd=source)
            if not stat.S_ISDIR(found.st_mode):
                self._one(source, name, target, top, path + name, found)
                continue
            below = os.open(name, _DIRECTORY, dir_fd=source)
            made = self._directory(target, name, found)
            try:
                self._tree(below, made, top, f"{path}{name}/")
                _copy_attributes(below, made)
                os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
            finally:
                os.close(below)
                os.close(made)

    def _one(self, source: int, name: str, target: int, top: int, path: str, found: os.stat_result) -> None:
        if found.st_nlink == 1 or stat.S_ISSOCK(found.st_mode):
            self.file(source, name, target, name)
            return
        first = self._copies.setdefault((found.st_dev, found.st_ino), path)
        if first == path:
            self.file(source, name, target, name)
        else:
            self._make_room(target, name)
            os.link(first, name, src_dir_fd=top, dst_dir_fd=target, follow_symlinks=False)

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
        # What has another name may be in a layer below already: the two would be links to each other there.
        alone = found.st_nlink == 1
        if alone and (found.st_uid, found.st_gid) == self.owner and self.way is not Way.COPY:
            with contextlib.suppress(OSError):  # too many links, another file system
                self._same(source, name, target, new)
                return
        self._copy(source, name, target, new, found)

    def _same(self, source: int, name: str, target: int, new: str) -> None:
        if self.way is Way.MOVE:
            os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        else:
            os.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)

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
