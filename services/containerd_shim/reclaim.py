"""Ending what the death of a shim left behind: its container's processes and cgroups."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec

from services.containerd_shim import state
from services.containerd_shim.runtime.container import Container, ContainerState
from services.protocol import oci

#: Exit status of a container that had to be killed.
KILLED = 128 + signal.SIGKILL
#: Seconds that killed processes get to disappear.
_GONE_TIMEOUT = 8.0


def reclaim(directory: Path) -> None:
    """Kill the container whose shim kept *directory*, free its cgroups, record it as lost.

    Its init is known by pid and start time, so that another process is never hit. Harmless when
    repeated.
    """
    record = state.load(directory)
    if record is None or record.lost:
        return
    if state.is_alive(record.pid, record.pid_start):
        os.kill(record.pid, signal.SIGKILL)
    if record.bundle:
        _destroy(record)
    _wait_gone(record)
    if record.status != "stopped":
        record.exit_status, record.exited_at = KILLED, time.time_ns()
    record.status, record.lost = "stopped", True
    state.save(str(directory), record)


def _destroy(record: state.ShimRecord) -> None:
    bundle = Path(record.bundle)
    try:
        spec = msgspec.json.decode((bundle / "config.json").read_bytes(), type=oci.Spec)
    except FileNotFoundError:  # the engine has removed the bundle
        return
    kept = ContainerState(record.id, record.bundle, record.pid, record.pid_start)
    Container.load(kept, spec).destroy()


def _wait_gone(record: state.ShimRecord) -> None:
    deadline = time.monotonic() + _GONE_TIMEOUT
    while state.is_alive(record.pid, record.pid_start) and time.monotonic() < deadline:
        time.sleep(0.002)
