"""Ending what the death of a shim left behind: its container's processes and cgroups."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path

import msgspec

from services.containerd_shim import state
from services.containerd_shim.lost import mark_lost
from services.containerd_shim.runtime.container import Container, ContainerState
from services.protocol import oci

#: Seconds that killed processes get to disappear, and the shim's own to be gone.
_GONE_TIMEOUT = 8.0


def reclaim(directory: Path) -> None:
    """Kill the container whose shim kept *directory*, free its cgroups, record it as lost.

    Its init is known by pid and start time, so that another process is never hit. Harmless when
    repeated.
    """
    record = state.load(directory)
    if record is None or record.lost:
        return
    claim = _claim(directory)
    try:
        now = state.load(directory)
        if now is None or now.lost or (now.shim_pid, now.shim_start) != (record.shim_pid, record.shim_start):
            return  # somebody else has done it meanwhile; another run of the container may have begun
        record = now
        if state.is_alive(record.pid, record.pid_start):
            os.kill(record.pid, signal.SIGKILL)
        try:
            _destroy(directory, record)
        except Exception:  # it is lost all the same, and must be known as that
            traceback.print_exc(file=sys.stderr)
        _wait_gone(record)
        mark_lost(record)
        state.save(str(directory), record)
    finally:
        if claim >= 0:
            os.close(claim)


def _claim(directory: Path) -> int:
    """Wait for the end of the shim and of its maker: nothing is to be made after it was removed."""
    deadline = time.monotonic() + _GONE_TIMEOUT
    while (claim := state.claim(str(directory))) < 0 and time.monotonic() < deadline:
        time.sleep(0.002)
    return claim


def _destroy(directory: Path, record: state.ShimRecord) -> None:
    """Also of a container that was being made: its bundle, if it is not recorded yet, is *directory*."""
    bundle = Path(record.bundle) if record.bundle else directory
    try:
        spec = msgspec.json.decode((bundle / "config.json").read_bytes(), type=oci.Spec)
    except FileNotFoundError:  # the engine has removed the bundle, or has made none
        return
    kept = ContainerState(record.id, str(bundle), record.pid, record.pid_start)
    container = Container.load(kept, spec)
    if record.pid:
        container.destroy()
    else:
        container.free()


def _wait_gone(record: state.ShimRecord) -> None:
    deadline = time.monotonic() + _GONE_TIMEOUT
    while state.is_alive(record.pid, record.pid_start) and time.monotonic() < deadline:
        time.sleep(0.002)
