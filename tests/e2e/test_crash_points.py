"""Operations, each with a service killed at one system call after the other.

Nothing is left of the one that was cut short. ``WHARFD_CRASH_POINTS=<last>`` goes through every number up to
*last*, as ``make crash-points`` does; without it none is tried.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest
from _pytest.mark.structures import ParameterSet

from tests.e2e import leftovers, victims
from tests.e2e.crash import check_no_orphans, is_counted, logged
from tests.e2e.operations import OPERATIONS, Operation
from tests.e2e.operations_containers import CONTAINERS
from tests.e2e.operations_processes import PROCESSES
from tests.harness import crashpoints
from tests.harness.crashpoints import CALLS, CrashPoint
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

crashpoints.require()
pytestmark = pytest.mark.timeout(1200)

#: Of the container that was there before.
_COUNTER = "i=0; while :; do i=$((i+1)); echo $i; usleep 100000; done"


def _start_again(engine: Engine, operation: Operation, init: int) -> None:
    """After its shim has died: the container has ended, and can be started."""
    wait_until(lambda: victims.init(engine) != init, "the end of the container is known")
    if operation.then:
        engine.docker("start", "point")


def _play(engine: Engine, operation: Operation, service: str, group: str, number: int) -> bool:
    """True if the call was reached."""
    for command in operation.prepare:
        engine.docker(*command)
    wait_until(lambda: victims.is_steady(engine), "services run")
    init = victims.init(engine) if service == "shim" else 0
    victim = victims.victim(engine, service)
    with CrashPoint(victim, group, number) as point:
        engine.docker(*operation.act, check=False, stdin=operation.stdin)
        reached = point.reached
    if init and not psutil.pid_exists(victim):
        _start_again(engine, operation, init)
    engine.wait_ready()
    check_no_orphans(engine, set())
    for command in operation.then:
        engine.docker(*command)
    for command in operation.finish:
        engine.docker(*command, check=False)
    return reached


def _tried() -> Iterator[ParameterSet]:
    for operation in OPERATIONS + CONTAINERS + PROCESSES:
        shim = ["shim"] if operation.is_on_running else []
        for service in ["engine", "zygote", "containerd-shim", "apiserver", *shim]:
            yield pytest.param(operation, service, id=f"{operation.name}-{service}")


@pytest.mark.parametrize("group", CALLS)
@pytest.mark.parametrize(("operation", "service"), list(_tried()))
def test_killed_at(engine: Engine, name: str, operation: Operation, service: str, group: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", _COUNTER)
    pid = engine.client.api.inspect_container(name)["State"]["Pid"]
    mounts = leftovers.mounts(engine)
    for number in range(1, crashpoints.LAST + 1):
        point, began = f"{service} at {group} {number}", time.time()
        try:
            reached = _play(engine, operation, service, group, number)
            _check(engine, name, mounts, began)
        except (AssertionError, TimeoutError, subprocess.TimeoutExpired) as error:
            for command in operation.finish:
                engine.docker(*command, check=False)
            raise AssertionError(f"{point}: {error}\n{engine.log_tail()}") from error
        assert engine.client.api.inspect_container(name)["State"]["Pid"] == pid, point
        assert is_counted(logged(engine, name)), point
        if not reached:
            break


def _created(engine: Engine, since: float) -> set[str]:
    """Ids of the containers that were made since *since*, as far as an engine lives that knows of them."""
    filters = {"type": "container", "event": "create"}
    events = engine.client.api.events(since=since, until=time.time(), filters=filters, decode=True)
    return {event["Actor"]["ID"] for event in events}


def _check(engine: Engine, name: str, mounts: list[str], began: float) -> None:
    leftovers.clean(engine, keep=name)
    check_no_orphans(engine, _created(engine, began))
    leftovers.check(engine, name)
    leftovers.check_images(engine, {engine.client.api.inspect_container(name)["Id"]})
    wait_until(lambda: leftovers.mounts(engine) == mounts, "no mount is left")
