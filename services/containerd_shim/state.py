"""What a shim leaves on disk: ``state.json`` in its directory, replaced atomically.

Written at every transition, and fsynced when it holds an exit: that of a container that runs is worth
nothing after a power failure, which ends the container. As long as the shim lives it answers for itself;
the record is for those who find it dead: which process was its init (pid and start time), how it ended.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

STATE_FILE = "state.json"


class ShimRecord(msgspec.Struct, kw_only=True):
    """``status`` is prepared, created, running or stopped. Start times are the kernel's, in ticks.

    ``lost``: the shim died; the exit was made up by the service that found out.
    """

    id: str
    shim_pid: int
    shim_start: int
    bundle: str = ""
    status: str = "prepared"
    pid: int = 0
    pid_start: int = 0
    started_at: int = 0
    exited_at: int = 0
    exit_status: int = 0
    oom_killed: bool = False
    lost: bool = False


def start_time(pid: int) -> int:
    """When *pid* was started, in clock ticks since boot (proc(5), stat field 22); 0 if it has ended.

    A zombie has, but for one whose other threads (field 20) go on.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(fd, 4096).rpartition(b")")[2].split()
            ended = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
            return 0 if ended else int(fields[19])
        finally:
            os.close(fd)
    except (OSError, IndexError):
        return 0


def is_alive(pid: int, started: int) -> bool:
    """Whether *pid* is still the process that was started at *started*."""
    return pid > 0 and started > 0 and start_time(pid) == started


def claim(directory: str) -> int:
    """A descriptor by which one process, with those it leaves it to, has *directory*; -1: another has it.

    It is released by the last of them that ends, however it ends (flock(2)).
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return -1
    return fd


def save(directory: str, record: ShimRecord) -> None:
    """Found by whoever comes after a crash of any process; an exit is on the disk when this returns."""
    target = directory + "/" + STATE_FILE
    fresh = directory + "/.state.tmp"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(record))
        if record.status == "stopped":
            os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(fresh, target)


def load(directory: Path) -> ShimRecord | None:
    """The record in *directory*; None if there is none."""
    try:
        return msgspec.json.decode((directory / STATE_FILE).read_bytes(), type=ShimRecord)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return None
