"""Where ext4 puts the files of a new tree: ``FS_TOPDIR_FL``, "top of directory hierarchies" (chattr(1), T).

A file's inode comes from the block groups of its directory, and a directory's from those of its parent, so
all layers would be in the groups of the driver's home. Where the file system has no journal, the kernel
uses no inode again for one to six minutes after it was deleted, and passes over all such inodes of the
group one by one, for every new file (``fs/ext4/ialloc.c``, ``recently_deleted``): in groups where thousands
were deleted, making a file takes ten times as long. A directory made in one with this flag goes to groups
with few directories (``find_group_orlov``); which of them is looked at first is a hash of its name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

#: linux/fs.h; they are defined with a long, and are an int.
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
_FLAGS = struct.Struct("=I4x")
_TOPDIR = 0x00020000


def spread(directory: Path) -> None:
    """What is made in *directory* from now on begins in block groups of its own, where there are such."""
    # Other file systems refuse the flag, or know no flags.
    with contextlib.suppress(OSError):
        _set(directory, _flags(directory) | _TOPDIR)


def is_spread(directory: Path) -> bool:
    """Raises ``OSError`` where the file system knows no flags."""
    return bool(_flags(directory) & _TOPDIR)


def _flags(directory: Path) -> int:
    buffer = bytearray(_FLAGS.size)
    _ioctl(directory, _GETFLAGS, buffer)
    return int(_FLAGS.unpack(buffer)[0])


def _set(directory: Path, flags: int) -> None:
    _ioctl(directory, _SETFLAGS, bytearray(_FLAGS.pack(flags)))


def _ioctl(directory: Path, request: int, buffer: bytearray) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, request, buffer)
    finally:
        os.close(fd)
