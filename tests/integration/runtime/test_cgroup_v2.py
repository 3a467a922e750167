"""The v2 manager on a unified hierarchy, with or without controllers in it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator

import pytest

from services.containerd_shim.runtime.cgroups.hierarchies import detect
from services.containerd_shim.runtime.cgroups.v2 import V2Manager
from services.containerd_shim.runtime.init import join_cgroups
from services.protocol import oci
from tests.integration.runtime.conftest import PARENT


@pytest.fixture
def manager() -> Iterator[V2Manager]:
    if os.geteuid() != 0:
        pytest.skip("cgroups need root")
    mount = detect().v2
    if mount is None:
        pytest.skip("no unified hierarchy is mounted")
    made = V2Manager(mount, f"{PARENT}/{uuid.uuid4().hex}")
    made.create()
    yield made
    made.destroy()
    made.destroy()
    assert not os.path.exists(made.directory)


def inside(manager: V2Manager, run: str) -> int:
    """Fork a process that joins and executes a shell script; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            join_cgroups(manager.join_files())
            os.execv("/bin/sh", ["sh", "-c", run])
        finally:
            os._exit(99)
    return pid


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_are_found_frozen_and_killed(manager: V2Manager) -> None:
    pid = inside(manager, "sleep 61 & sleep 62")
    wait_for(lambda: len(manager.pids()) >= 2)
    manager.freeze(True)
    assert manager.frozen()
    manager.freeze(False)
    assert not manager.frozen()
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    manager.kill()
    wait_for(lambda: manager.pids() == [])


def test_destroy_kills_and_removes_nested_cgroups(manager: V2Manager) -> None:
    pid = inside(manager, "exec sleep 61")
    wait_for(lambda: manager.pids() == [pid])
    os.mkdir(f"{manager.directory}/nested")
    manager.destroy()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("again", [False, True])
def test_device_rules_are_enforced(manager: V2Manager, again: bool) -> None:
    """Also after an update, which must replace the program and not add to it."""
    deny = oci.DeviceCgroup(allow=False)
    if again:
        manager.set(oci.Resources(devices=[deny]))
    allow = oci.DeviceCgroup(allow=True, type="c", major=1, minor=11, access="r")
    manager.set(oci.Resources(devices=[deny, allow]))
    script = (
        ": < /dev/null && : > /dev/null && : < /dev/kmsg && "
        "! (: >> /dev/kmsg) 2>/dev/null && ! (: < /dev/fuse) 2>/dev/null"
    )
    pid = inside(manager, script)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
