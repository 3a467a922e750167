"""Locks that make a daemon the only one of its pid file, exec root and data root.

A lock is the kernel's (flock(2)) and goes with its process: a file left by a daemon that was
killed, or whose pid has since been given to another program, does not stand in the way.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class StillRunning(RuntimeError):
    """Another daemon holds the lock; the text is dockerd's (moby ``pkg/pidfile``)."""


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Hold *path* with this process's pid in it; removed on the way out.

    Raises :class:`StillRunning`.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(fd, 32).decode().strip() or "unknown"
            raise StillRunning(
                f"failed to start daemon, ensure wharfd is not running or delete {path}: "
                f"process with PID {pid} is still running"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    finally:
        os.close(fd)


@contextlib.contextmanager
def directory_lock(path: Path) -> Iterator[None]:
    """Hold the directory *path*, which must exist. Raises :class:`StillRunning`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StillRunning(f"failed to start daemon: {path} is in use by another wharfd") from None
        yield
    finally:
        os.close(fd)
