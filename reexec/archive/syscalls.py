"""System calls that Python 3.11's ``os`` does not have, through libc."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Mapping
from typing import Any

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
CLONE_NEWNS = 0x20000
CLONE_NEWPID = 0x20000000
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY = 1

#: Same numbers on every architecture that has the calls (Linux 5.2, asm-generic/unistd.h).
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_FSOPEN = 430
_SYS_FSCONFIG = 431
_SYS_FSMOUNT = 432
#: Commands of fsconfig(2) (linux/mount.h).
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6
_PR_SET_PDEATHSIG = 1

#: ``f_type`` of proc, sysfs, cgroup, cgroup2 (linux/magic.h).
_KERNEL_VIEWS = frozenset({0x9FA0, 0x62656572, 0x27E0EB, 0x63677270})


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2); *data* longer than a page is refused by the kernel (``EINVAL``)."""
    arguments = (os.fsencode(source), os.fsencode(target), os.fsencode(fstype) or None)
    _check(_libc().mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data) or None), target)


def umount(target: str, flags: int = 0) -> None:
    _check(_libc().umount2(os.fsencode(target), flags), target)


def unshare(flags: int) -> None:
    _check(_libc().unshare(flags), "unshare")


def set_parent_death_signal(number: int) -> None:
    """What this process gets when its parent ends, which may have been already."""
    _check(_libc().prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0), "prctl")


def setns(fd: int, kind: int) -> None:
    _check(_libc().setns(fd, kind), "setns")


def filesystem_type(path: str) -> int:
    """``f_type`` of statfs(2): the magic number of the file system that *path* is on (linux/magic.h)."""
    # struct statfs is 120 bytes at most (asm-generic/statfs.h); it begins with f_type, a long.
    result = (ctypes.c_long * 32)()
    _check(_libc().statfs(os.fsencode(path), result), path)
    return int(result[0])


def is_kernel_view(path: str) -> bool:
    """Whether *path* is in a file system that shows the kernel's state rather than files."""
    return filesystem_type(path) in _KERNEL_VIEWS


def syncfs(fd: int) -> None:
    """Everything written to the file system of *fd* is on the disk when this returns."""
    _check(_libc().syncfs(fd), "syncfs")


def open_tree(path: str, flags: int) -> int:
    """A descriptor of a (cloned) mount; close-on-exec."""
    call = _libc().syscall
    call.restype = ctypes.c_long
    return _check(call(_SYS_OPEN_TREE, -100, os.fsencode(path), ctypes.c_uint(flags | os.O_CLOEXEC)), path)


def move_mount(fd: int, target_fd: int) -> None:
    """Attach the detached mount *fd* on what *target_fd* refers to."""
    call = _libc().syscall
    call.restype = ctypes.c_long
    flags = MOVE_MOUNT_F_EMPTY_PATH | 0x40  # MOVE_MOUNT_T_EMPTY_PATH
    _check(call(_SYS_MOVE_MOUNT, fd, b"", target_fd, b"", ctypes.c_uint(flags)), "move_mount")


def try_filesystem(fstype: str, options: Mapping[str, str | None]) -> None:
    """Set a file system up as for mounting, and let it go again: raises ``OSError`` where that fails."""
    os.close(_configured(fstype, options))


def detached(fstype: str, options: Mapping[str, str | None], *, read_only: bool = False) -> int:
    """A new mount that is attached nowhere: gone with its descriptor unless :func:`move_mount` is called."""
    context = _configured(fstype, options)
    call = _libc().syscall
    call.restype = ctypes.c_long
    try:
        flags = (ctypes.c_uint(1), ctypes.c_uint(MOUNT_ATTR_RDONLY if read_only else 0))
        return _check(call(_SYS_FSMOUNT, ctypes.c_int(context), *flags), fstype)
    finally:
        os.close(context)


def _configured(fstype: str, options: Mapping[str, str | None]) -> int:
    """A file system context that has been created; an option without a value is a flag."""
    call = _libc().syscall
    call.restype = ctypes.c_long
    context = _check(call(_SYS_FSOPEN, os.fsencode(fstype), ctypes.c_uint(1)), fstype)
    try:
        for key, value in options.items():
            text = None if value is None else os.fsencode(value)
            command = ctypes.c_uint(_SET_FLAG if text is None else _SET_STRING)
            arguments = (command, key.encode(), text, ctypes.c_int(0))
            _check(call(_SYS_FSCONFIG, ctypes.c_int(context), *arguments), key)
        create = (ctypes.c_uint(_CMD_CREATE), None, None, ctypes.c_int(0))
        _check(call(_SYS_FSCONFIG, ctypes.c_int(context), *create), fstype)
    except BaseException:
        os.close(context)
        raise
    return context
