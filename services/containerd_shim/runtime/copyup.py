"""``tmpcopyup``: a tmpfs that starts with what the directory under it holds."""

from __future__ import annotations

import os
import shutil
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy(source: int, target: int) -> None:
    """Copy the tree below the directory *source* into *target*, with modes, owners and times.

    Both are descriptors and every step is relative to one, so that symlinks lead nowhere.
    """
    source_dir = os.open(".", _DIRECTORY, dir_fd=source)
    target_dir = os.open(".", _DIRECTORY, dir_fd=target)
    try:
        _copy_entries(source_dir, target_dir)
        _copy_status(os.fstat(source_dir), target_dir)
    finally:
        os.close(source_dir)
        os.close(target_dir)


def _copy_entries(source: int, target: int) -> None:
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            below = os.open(name, _DIRECTORY, dir_fd=source)
            made = os.open(name, _DIRECTORY, dir_fd=target)
            try:
                _copy_entries(below, made)
                _copy_status(status, made)
            finally:
                os.close(below)
                os.close(made)
        elif stat.S_ISREG(status.st_mode):
            _copy_file(source, target, name, status)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_file(source: int, target: int, name: str, status: os.stat_result) -> None:
    read = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    write = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
    with os.fdopen(read, "rb") as from_file, os.fdopen(write, "wb") as to_file:
        shutil.copyfileobj(from_file, to_file)
        to_file.flush()
        _copy_status(status, to_file.fileno())


def _copy_status(status: os.stat_result, fd: int) -> None:
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
