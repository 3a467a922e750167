"""``docker-copytree SOURCE TARGET``: a full copy of a tree, with owners, modes, times and attributes.

Data is shared where the file system can (``FICLONE``), else copied inside the kernel.
"""

from __future__ import annotations

import fcntl
import os
import stat

from reexec.archive import syscalls
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter

_FICLONE = 0x40049409


@register("docker-copytree")
def main(call: Call) -> int:
    if len(call.argv) != 3:
        raise InvalidParameter("usage: docker-copytree SOURCE TARGET")
    os.umask(0)
    copy_tree(call.argv[1], call.argv[2])
    fd = os.open(call.argv[2], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)
    return 0


def copy_tree(source: str, target: str) -> None:
    """The content and the attributes of directory *source* into the existing directory *target*.

    Hard links inside the tree stay hard links; nothing outside of it is followed.
    """
    links: dict[tuple[int, int], str] = {}
    _copy_directory(source, target, links)


def _copy_directory(source: str, target: str, links: dict[tuple[int, int], str]) -> None:
    for entry in list(os.scandir(source)):
        found = entry.stat(follow_symlinks=False)
        where = os.path.join(target, entry.name)
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(where, 0o700)
            _copy_directory(entry.path, where, links)
            continue
        if found.st_nlink > 1:
            first = links.setdefault((found.st_dev, found.st_ino), where)
            if first != where:
                os.link(first, where, follow_symlinks=False)
                continue
        copy_entry(entry.path, where, found)
    copy_attributes(source, target, os.lstat(source))


def copy_entry(source: str, target: str, found: os.stat_result) -> None:
    """One entry that is no directory, with its attributes."""
    if stat.S_ISREG(found.st_mode):
        _copy_data(source, target, found.st_size)
    elif stat.S_ISLNK(found.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISSOCK(found.st_mode):
        return
    else:
        os.mknod(target, found.st_mode, found.st_rdev)
    copy_attributes(source, target, found)


def _copy_data(source: str, target: str, size: int) -> None:
    inside = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        outside = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _transfer(inside, outside, size)
        finally:
            os.close(outside)
    finally:
        os.close(inside)


def _transfer(inside: int, outside: int, size: int) -> None:
    try:
        fcntl.ioctl(outside, _FICLONE, inside)
        return
    except OSError:
        pass
    try:
        while os.copy_file_range(inside, outside, max(size, 1 << 30)):
            pass
    except OSError:
        # Across file systems, or a file system without it: through this process, from where it stopped.
        while data := os.read(inside, 1 << 20):
            view = memoryview(data)
            while view:
                view = view[os.write(outside, view) :]


def copy_attributes(source: str, target: str, found: os.stat_result) -> None:
    """Owner, mode, extended attributes and times; overlay's own attributes are not copied."""
    os.lchown(target, found.st_uid, found.st_gid)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if name.startswith("trusted.overlay."):
            continue
        try:
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(target, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (1, 61, 95):  # EPERM, ENODATA, ENOTSUP
                raise
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)
