"""What a cgroup manager does, for one container in one kind of hierarchy.

A manager owns the directories of one container. Life::

    create() -> set(resources) -> the child writes "0" to each of join_files() -> ... -> destroy()

``destroy`` is idempotent and also works for a manager made from the same path after a crash: the
path is all the state there is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from services.protocol import oci
from services.protocol.errors import InvalidParameter, SystemError_
from services.protocol.metrics import Metrics

_REMOVE_SECONDS = 10.0


class RefusedError(SystemError_):
    """A limit that cannot be had; the text is runc's."""

    @property
    def text(self) -> str:
        return str(self)


class WriteError(OSError):
    """A limit that the kernel refuses; :attr:`text` is runc's."""

    def __init__(self, number: int, path: str, value: str) -> None:
        super().__init__(number, os.strerror(number), path)
        self.text = f'failed to write "{value}": write {path}: {os.strerror(number).lower()}'


class CgroupManager(Protocol):
    """Raises OSError (with the file's name) or a WharfError; paths are the host's."""

    version: int

    def create(self) -> None:
        """Make the directories; existing ones are taken over."""

    def set(self, resources: oci.Resources) -> None:
        """Write the limits that are given; None leaves a limit as it is."""

    def join_files(self) -> list[str]:
        """Files to which a single-threaded process writes "0" to join."""

    def mounts(self) -> list[tuple[str, str]]:
        """(controllers, host path of the container's directory), for the container's cgroup mount."""

    def pids(self) -> list[int]:
        """Every process, also in cgroups below."""

    def freeze(self, frozen: bool) -> None:
        """Pause or resume everything; returns when it has taken effect."""

    def frozen(self) -> bool: ...

    def kill(self) -> None:
        """SIGKILL every process, also those being forked meanwhile."""

    def stats(self) -> Metrics: ...

    def oom_event_fd(self) -> int | None:
        """Readable when the container may have run out of memory; the caller closes it."""

    def oom_kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""

    def destroy(self) -> None: ...


def clean_path(path: str, container_id: str) -> str:
    """A spec's ``cgroupsPath`` relative to the hierarchy's root; ".." is refused."""
    if ":" in path:
        raise InvalidParameter(f"cgroupsPath {path!r} is systemd's form, which is not supported")
    parts = [part for part in (path or container_id).split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise InvalidParameter(f"invalid cgroupsPath {path!r}")
    return "/".join(parts)


def write(directory: str, name: str, value: str | int) -> None:
    """Write *value* to a cgroup file; raises WriteError."""
    path = f"{directory}/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    except OSError as error:
        raise WriteError(error.errno or 0, path, str(value)) from error
    finally:
        os.close(fd)


def read(directory: str, name: str) -> str:
    """The text of a cgroup file; empty when the file or the cgroup is not there."""
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        parts = []
        while data := os.read(fd, 1 << 16):
            parts.append(data)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return ""
        raise
    finally:
        os.close(fd)
    return b"".join(parts).decode().strip()


def read_int(directory: str, name: str, default: int = 0) -> int:
    """A single number; ``max`` is -1."""
    text = read(directory, name)
    return -1 if text == "max" else int(text or default)


def read_table(directory: str, name: str) -> dict[str, int]:
    """Lines of ``key number``."""
    table = {}
    for line in read(directory, name).splitlines():
        key, _, value = line.partition(" ")
        with contextlib.suppress(ValueError):
            table[key] = int(value)
    return table


def make(path: str) -> None:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        os.makedirs(path, 0o755, exist_ok=True)


def tree(path: str) -> list[str]:
    """*path* and every cgroup below, the deepest first."""
    return [directory for directory, _dirs, _files in os.walk(path, topdown=False)]


def tree_pids(path: str) -> list[int]:
    found: list[int] = []
    for directory in tree(path):
        found += [int(pid) for pid in read(directory, "cgroup.procs").split()]
    return found


def remove_trees(paths: Iterable[str], seconds: float = _REMOVE_SECONDS) -> None:
    """Remove cgroups; a killed process leaves its cgroup a moment after it is reaped."""
    deadline = time.monotonic() + seconds
    left = [path for path in paths if not _remove(path)]
    delay = 0.001
    while left:
        if time.monotonic() > deadline:
            raise SystemError_(f"unable to remove cgroups: {', '.join(left)}: device or resource busy")
        time.sleep(delay)
        delay = min(delay * 2, 0.1)
        left = [path for path in left if not _remove(path)]


def _remove(path: str) -> bool:
    """True when *path* is gone."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    else:
        return True
    for directory in tree(path):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return not Path(path).exists()
