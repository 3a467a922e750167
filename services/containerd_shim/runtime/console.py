"""The pseudo-terminal of a process, taken from the container's own devpts (pts(4))."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios

from services.containerd_shim.runtime import inroot
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.failures import StartError

_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
_PTMX = os.makedev(5, 2)
_SLAVE_MAJORS = range(136, 144)


def open_pair(root: int, size: tuple[int, int] | None) -> tuple[int, int]:
    """(master, slave); *size* is (height, width) in characters.

    The container may have put anything at that path, so what it is gets checked. The slave is opened
    through the master and not by its name.
    """
    try:
        master = inroot.open_in(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise StartError(f"open /dev/ptmx: {(error.strerror or '').lower()}") from error
    try:
        status = os.fstat(master)
        if not stat.S_ISCHR(status.st_mode) or status.st_rdev != _PTMX:
            raise StartError("/dev/pts/ptmx is not the pseudo-terminal multiplexer")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if os.major(os.fstat(slave).st_rdev) not in _SLAVE_MAJORS:
            raise OSError(errno.ENXIO, "not a pseudo-terminal", "/dev/pts/ptmx")
        if size is not None and any(size):
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    except BaseException:
        os.close(master)
        raise
    return master, slave


def bind_console(root: int, slave: int) -> None:
    """Show the terminal as ``/dev/console``, made fresh so that no link is followed."""
    parent, name = inroot.parent_of(root, "/dev/console")
    try:
        flags = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY
        mask = os.umask(0)
        try:
            target = os.open(name, flags, 0o666, dir_fd=parent)
        finally:
            os.umask(mask)
        try:
            clone = sc.open_tree(slave, "", sc.OPEN_TREE_CLONE | sc.AT_EMPTY_PATH)
            try:
                sc.move_mount(clone, target)
            finally:
                os.close(clone)
        finally:
            os.close(target)
    finally:
        os.close(parent)


def make_controlling(slave: int) -> None:
    """The calling session leader's terminal becomes *slave*."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
