"""btrfs subvolumes, snapshots and quota groups by ioctl(2) (linux/btrfs.h, linux/btrfs_tree.h).

Every call here may wait for a transaction of the file system: milliseconds, on a busy disk seconds.
All raise ``OSError``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

#: Inode number of every subvolume's root directory (BTRFS_FIRST_FREE_OBJECTID).
_SUBVOLUME_ROOT = 256
_LAST = (1 << 64) - 1
_ROOT_TREE, _QUOTA_TREE = 1, 8
#: Types of items in those trees.
_ROOT_REF, _QGROUP_STATUS = 156, 240

_READ_ONLY = 1 << 1
_SPEC_BY_ID = 1 << 4
_QUOTA_ENABLE = 1
_LIMIT_REFERENCED = 1

#: A file handle of three numbers: inode, subvolume, and generation, which is not compared if 0
#: (open_by_handle_at(2); FILEID_BTRFS_WITHOUT_PARENT).
_HANDLE_SIZE, _HANDLE_TYPE = 20, 0x4D

#: Sizes of the structures: fixed by the kernel's interface.
_ARGS = 4096
_NAME_V1, _NAME_V2 = 4088, 4040
_HEADER = struct.Struct("=QQQII")


def _request(direction: int, number: int, size: int) -> int:
    """An ioctl number (asm-generic/ioctl.h); *direction* is 1 to write, 2 to read."""
    return direction << 30 | size << 16 | 0x94 << 8 | number


_SNAP_DESTROY = _request(1, 15, _ARGS)
_TREE_SEARCH = _request(3, 17, _ARGS)
_INO_LOOKUP = _request(3, 18, _ARGS)
_SNAP_CREATE_V2 = _request(1, 23, _ARGS)
_SUBVOL_CREATE_V2 = _request(1, 24, _ARGS)
_SUBVOL_GETFLAGS = _request(2, 25, 8)
_SUBVOL_SETFLAGS = _request(1, 26, 8)
_QUOTA_CTL = _request(3, 40, 16)
_QGROUP_CREATE = _request(1, 42, 16)
_QGROUP_LIMIT = _request(2, 43, 48)
_QUOTA_RESCAN_WAIT = _request(0, 46, 0)
_SNAP_DESTROY_V2 = _request(1, 63, _ARGS)


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _named(name: str, limit: int) -> bytes:
    encoded = os.fsencode(name)
    if len(encoded) >= limit:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    return encoded.ljust(limit, b"\0")


def create(path: str) -> None:
    """An empty subvolume at *path*, which must not exist; its parent must."""
    parent, name = os.path.split(path)
    with _directory(parent) as where:
        arguments = bytearray(struct.pack("=qQQ32x", 0, 0, 0) + _named(name, _NAME_V2))
        fcntl.ioctl(where, _SUBVOL_CREATE_V2, arguments)


def snapshot(source: str, path: str) -> None:
    """A writable copy of subvolume *source* at *path*, which must not exist. It is on the disk then."""
    parent, name = os.path.split(path)
    with _directory(source) as original, _directory(parent) as where:
        arguments = bytearray(struct.pack("=qQQ32x", original, 0, 0) + _named(name, _NAME_V2))
        fcntl.ioctl(where, _SNAP_CREATE_V2, arguments)


def is_subvolume(path: str) -> bool:
    """Whether *path*, its last link not followed, is a subvolume's root directory."""
    try:
        found = os.lstat(path)
        if found.st_ino != _SUBVOLUME_ROOT:
            return False
        with _directory(path) as fd:
            _subvolume_id(fd)
    except OSError:
        return False
    return True


def make_writable(path: str) -> None:
    """Take back that subvolume *path* is read-only: whoever owns a subvolume may have made it so."""
    with _directory(path) as fd:
        _make_writable(fd)


def destroy(path: str) -> None:
    """Remove subvolume *path* with those that were made inside it; its data is freed later, by the kernel.

    Nested ones are found and removed by their ids: no path that was made inside is followed.
    """
    parent, name = os.path.split(path)
    with _directory(path) as fd:
        own = _subvolume_id(fd)
        _prepare(fd, own)
    with _directory(parent) as where:
        fcntl.ioctl(where, _SNAP_DESTROY, bytearray(struct.pack("=q", 0) + _named(name, _NAME_V1)))


def _prepare(fd: int, subvolume: int) -> None:
    """Make *subvolume*, whose root *fd* is, ready to be destroyed: nothing nested, not read-only."""
    _make_writable(fd)
    for child in _children(fd, subvolume):
        inside = _open(fd, child)
        try:
            _prepare(inside, child)
        finally:
            os.close(inside)
        arguments = struct.pack("=qQQ32xQ", 0, 0, _SPEC_BY_ID, child)
        fcntl.ioctl(fd, _SNAP_DESTROY_V2, bytearray(arguments.ljust(_ARGS, b"\0")))
    _forget_quota(fd, subvolume)


def _open(fd: int, subvolume: int) -> int:
    """The root directory of *subvolume* of the file system that *fd* is in, wherever it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = struct.pack("=IiQQI", _HANDLE_SIZE, _HANDLE_TYPE, _SUBVOLUME_ROOT, subvolume, 0)
    found = libc.open_by_handle_at(fd, handle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"subvolume {subvolume}")
    return int(found)


def _make_writable(fd: int) -> None:
    flags = bytearray(8)
    fcntl.ioctl(fd, _SUBVOL_GETFLAGS, flags)
    (value,) = struct.unpack("=Q", flags)
    if value & _READ_ONLY:
        fcntl.ioctl(fd, _SUBVOL_SETFLAGS, bytearray(struct.pack("=Q", value & ~_READ_ONLY)))


def _subvolume_id(fd: int) -> int:
    """Id of the subvolume that *fd* is in."""
    arguments = bytearray(struct.pack("=QQ", 0, _SUBVOLUME_ROOT).ljust(_ARGS, b"\0"))
    fcntl.ioctl(fd, _INO_LOOKUP, arguments)
    return int(struct.unpack_from("=Q", arguments)[0])


def _children(fd: int, subvolume: int) -> list[int]:
    """Ids of the subvolumes directly inside *subvolume*: offsets of its forward references."""
    found: list[int] = []
    first = 0
    while items := _search(fd, _ROOT_TREE, subvolume, _ROOT_REF, first):
        found += items
        first = items[-1] + 1
    return found


def _search(fd: int, tree: int, item: int, kind: int, first: int) -> list[int]:
    """Offsets of items (*item*, *kind*, from *first* on), as many as one call returns."""
    key = struct.pack("=QQQQQQQIIII32x", tree, item, item, first, _LAST, 0, _LAST, kind, kind, 4096, 0)
    arguments = bytearray(key.ljust(_ARGS, b"\0"))
    fcntl.ioctl(fd, _TREE_SEARCH, arguments)
    count = struct.unpack_from("=I", arguments, 64)[0]
    offsets, position = [], len(key)
    for _ in range(count):
        _transid, _item, offset, _kind, length = _HEADER.unpack_from(arguments, position)
        offsets.append(offset)
        position += _HEADER.size + length
    return offsets


# -- quota groups -----------------------------------------------------------------------------


def quota_enabled(path: str) -> bool:
    """Whether the file system of *path* keeps quota groups."""
    with _directory(path) as fd:
        try:
            return bool(_search(fd, _QUOTA_TREE, 0, _QGROUP_STATUS, 0))
        except OSError as error:
            if error.errno == errno.ENOENT:  # there is no such tree
                return False
            raise


def enable_quota(path: str) -> None:
    """Keep quota groups from now on; waits until what is there has been counted."""
    with _directory(path) as fd:
        fcntl.ioctl(fd, _QUOTA_CTL, bytearray(struct.pack("=QQ", _QUOTA_ENABLE, 0)))
        fcntl.ioctl(fd, _QUOTA_RESCAN_WAIT, 0)


def limit(path: str, size: int) -> None:
    """At most *size* bytes may be seen in subvolume *path*, what it shares with others included."""
    with _directory(path) as fd:
        arguments = struct.pack("=QQQQQQ", 0, _LIMIT_REFERENCED, size, 0, 0, 0)
        fcntl.ioctl(fd, _QGROUP_LIMIT, bytearray(arguments))


def _forget_quota(fd: int, subvolume: int) -> None:
    """Remove the quota group of a subvolume about to go: before Linux 6.11 nobody else does.

    Later kernels refuse that for a subvolume that is still there, and do it themselves.
    """
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, _QGROUP_CREATE, bytearray(struct.pack("=QQ", 0, subvolume)))
