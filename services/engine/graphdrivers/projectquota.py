"""Project quotas: a directory tree may take so many bytes of its file system (quotactl(2), xfs_quota(8)).

As moby's ``quota/projectquota.go``: every limited directory gets a project id of its own, which what
is made below inherits. Ids are never given twice: the next one is above all that are found at the
start, and one that somebody else's files on the file system have is passed over. An id given to the
driver's home by hand (``xfs_quota -x -c 'project -s ...'``) is where they begin.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.protocol.errors import SystemError_

#: linux/fs.h
_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_PROJECT_INHERIT = 0x200
#: ``struct fsxattr``: xflags, extsize, nextents, projid, cowextsize.
_FSXATTR = struct.Struct("=IIIII8x")

#: linux/quota.h, linux/dqblk_xfs.h: QCMD(command, PRJQUOTA).
_PROJECTS = 2
_XGETQUOTA, _XSETQLIM, _XGETQSTAT = ((0x5800 | n) << 8 | _PROJECTS for n in (3, 4, 5))
_ACCOUNTED_AND_ENFORCED = 1 << 4 | 1 << 5
#: ``struct fs_disk_quota`` up to the soft limit of blocks; all of it is 112 bytes.
_LIMITS, _LIMITS_SIZE = struct.Struct("=bbHIQQ"), 112
_VERSION, _IS_PROJECT, _BLOCK_LIMITS = 1, 2, 1 << 2 | 1 << 3
#: Where blocks and inodes in use are in it.
_USED, _USED_AT = struct.Struct("=QQ"), 40
#: Bytes that the kernel counts in.
_BLOCK = 512


class QuotaNotSupported(Exception):
    """The file system keeps no project quotas."""

    def __init__(self) -> None:
        super().__init__("Filesystem does not support, or has not enabled quotas")


class ProjectQuota:
    """Limits for directories in *homes*, which are on one file system.

    *device* is where a node of its block device is made: quotactl(2) takes a path of it. Raises
    :class:`QuotaNotSupported`.
    """

    def __init__(self, device: Path, homes: Sequence[Path]) -> None:
        self._device = device
        self._make_device(os.stat(homes[0]).st_dev)
        if not self._enforced():
            device.unlink()
            raise QuotaNotSupported
        self._next = 1 + max(_used_ids(homes))
        try:
            self._set(self._next, 0)
        except SystemError_ as error:
            raise QuotaNotSupported from error

    def _make_device(self, number: int) -> None:
        self._device.unlink(missing_ok=True)  # the home may have moved to another disk
        try:
            os.mknod(self._device, stat.S_IFBLK | 0o600, number)
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EPERM):
                raise QuotaNotSupported from error
            raise SystemError_(f"failed to mknod {self._device}: {error.strerror}") from error

    def _enforced(self) -> bool:
        answer = ctypes.create_string_buffer(256)
        if _quotactl(_XGETQSTAT, self._device, 0, answer):
            return False
        flags: int = struct.unpack_from("=H", answer, 2)[0]
        return flags & _ACCOUNTED_AND_ENFORCED == _ACCOUNTED_AND_ENFORCED

    def limit(self, directory: Path, size: int) -> None:
        """At most *size* bytes for *directory*, which is empty, and all that is made in it."""
        while self._is_used(self._next):
            self._next += 1
        project = self._next
        self._next += 1
        try:
            _set_project(directory, project)
        except OSError as error:
            raise SystemError_(f"failed to set projid for {directory}: {error.strerror}") from error
        self._set(project, size)

    def _is_used(self, project: int) -> bool:
        answer = ctypes.create_string_buffer(_LIMITS_SIZE)
        if _quotactl(_XGETQUOTA, self._device, project, answer):
            return False  # nothing has been counted for it
        return any(_USED.unpack_from(answer, _USED_AT))

    def _set(self, project: int, size: int) -> None:
        blocks = size // _BLOCK
        limits = _LIMITS.pack(_VERSION, _IS_PROJECT, _BLOCK_LIMITS, project, blocks, blocks)
        request = ctypes.create_string_buffer(limits, _LIMITS_SIZE)
        if number := _quotactl(_XSETQLIM, self._device, project, request):
            raise SystemError_(
                f"failed to set quota limit for projid {project} on {self._device}: "
                f"{os.strerror(number).lower()}"
            )


def _quotactl(command: int, device: Path, number: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """0 or the error's number."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.quotactl(ctypes.c_int(command), os.fsencode(device), ctypes.c_int(number), buffer)
    return ctypes.get_errno() if failed else 0


def _attributes(fd: int) -> tuple[int, ...]:
    buffer = bytearray(_FSXATTR.size)
    fcntl.ioctl(fd, _FSGETXATTR, buffer)
    return _FSXATTR.unpack(buffer)


def project_of(directory: Path) -> int:
    """The project id of *directory*; 0 is none. Raises ``OSError``."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _attributes(fd)[3]
    finally:
        os.close(fd)


def _set_project(directory: Path, project: int) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags, extent, extents, _project, copy_extent = _attributes(fd)
        changed = _FSXATTR.pack(flags | _PROJECT_INHERIT, extent, extents, project, copy_extent)
        fcntl.ioctl(fd, _FSSETXATTR, bytearray(changed))
    finally:
        os.close(fd)


def _used_ids(homes: Sequence[Path]) -> Iterator[int]:
    """Project ids of *homes* and of the directories in them."""
    for home in homes:
        for path in (
            home,
            *(Path(entry) for entry in os.scandir(home) if entry.is_dir(follow_symlinks=False)),
        ):
            try:
                yield project_of(path)
            except OSError as error:
                raise SystemError_(f"failed to get projid for {path}: {error.strerror}") from error


__all__ = ["ProjectQuota", "QuotaNotSupported", "project_of"]
