"""No service's death is a container's death: ``kill -9`` of each and of all, at work.

Afterwards no line is lost or doubled, attached clients stream on, exit codes are right, nothing is
orphaned, and ``docker ps`` is true.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.crash import COUNTER, Follower, Storm, check_no_orphans, is_counted, logged, shim
from tests.harness.engine import SERVICES, Engine
from tests.harness.readiness import wait_until

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

VICTIMS = [(service,) for service in SERVICES] + [SERVICES]


def ids(victims: tuple[str, ...]) -> str:
    return "all" if victims == SERVICES else victims[0]


def state(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("inspect", name).stdout)[0]["State"]
    return found


def counter(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", COUNTER)
    wait_until(lambda: len(logged(engine, name)) > 10, "the counter counts")


@pytest.mark.parametrize("victims", VICTIMS, ids=ids)
def test_output_goes_on(engine: Engine, name: str, victims: tuple[str, ...]) -> None:
    counter(engine, name)
    follower = Follower(engine, name)
    pid = state(engine, name)["Pid"]
    for _ in range(3):
        time.sleep(random.uniform(0.1, 0.5))
        engine.kill(*victims)
        follower.check_streams_on()
    engine.wait_ready()
    assert state(engine, name)["Pid"] == pid
    streamed = int(follower.lines[-1])
    lines = logged(engine, name)
    assert len(lines) >= streamed
    assert is_counted(lines)
    late = Follower(engine, name)
    late.check_streams_on()
    late.close()
    follower.close()
    engine.docker("kill", name)
    assert is_counted(logged(engine, name))


@pytest.mark.parametrize("victims", VICTIMS, ids=ids)
def test_exec_goes_on(engine: Engine, name: str, victims: tuple[str, ...]) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    api = engine.client.api
    identity = api.exec_create(name, ["sh", "-c", "sleep 2; echo done; exit 42"])["Id"]
    stream = api.exec_start(identity, socket=True)
    time.sleep(0.3)
    engine.kill(*victims)
    engine.wait_ready()
    stream._sock.settimeout(60)
    data = b""
    while chunk := stream._sock.recv(4096):
        data += chunk
    assert data.endswith(b"done\n")
    stream.close()
    wait_until(lambda: not api.exec_inspect(identity)["Running"], "the exec has ended")
    assert api.exec_inspect(identity)["ExitCode"] == 42
    assert engine.docker("exec", name, "sh", "-c", "exit 7", check=False).returncode == 7


@pytest.mark.parametrize("victims", VICTIMS, ids=ids)
def test_exit_while_services_are_down(engine: Engine, name: str, victims: tuple[str, ...]) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "sleep 0.4; echo last; exit 7")
    engine.kill(*victims)
    engine.wait_ready()
    assert engine.docker("wait", name).stdout.strip() == "7"
    found = state(engine, name)
    assert (found["Status"], found["ExitCode"]) == ("exited", 7)
    assert engine.docker("logs", name).stdout == "last\n"
    engine.docker("rm", name)
    check_no_orphans(engine, set())


@pytest.mark.parametrize("victims", VICTIMS, ids=ids)
def test_storm(engine: Engine, name: str, victims: tuple[str, ...]) -> None:
    counter(engine, name)
    seen: set[str] = set()
    storm = Storm(engine)
    try:
        for _ in range(4):
            time.sleep(random.uniform(0.2, 1.0))
            seen |= {path.name for path in (engine.data_root / "containers").iterdir()}
            engine.kill(*victims)
            engine.wait_ready()
        wait_until(lambda: storm.rounds >= 3, "the storm goes on after the crashes")
    finally:
        engine.wait_ready()
        storm.end()
    wait_until(lambda: listed_after(storm, engine) == [f"{name} running"], "the storm's containers are gone")
    assert is_counted(logged(engine, name))
    check_no_orphans(engine, seen)


def listed_after(storm: Storm, engine: Engine) -> list[str]:
    storm.clean()
    return engine.docker("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout.splitlines()


def test_waiting_client_gets_the_exit_code(engine: Engine, name: str) -> None:
    """``docker run`` itself, with the engine killed under it, ends with the container's code."""
    until_told = "until test -e /go; do usleep 50000; done; exit 11"
    command = engine.popen("run", "--name", name, "busybox", "sh", "-c", until_told)
    wait_until(lambda: engine.docker("ps", "-q", "-f", f"name={name}").stdout != "", "the container runs")
    engine.kill("engine")
    engine.docker("exec", name, "touch", "/go")
    assert command.wait(90) == 11


def test_request_during_a_restart_waits(engine: Engine, name: str) -> None:
    """A request that finds the engine restarting is answered, not failed."""
    for _ in range(3):
        engine.kill("engine")
        assert engine.docker("run", "--rm", "busybox", "echo", "ok").stdout == "ok\n"


def test_restart_policy_after_the_crash(engine: Engine, name: str) -> None:
    engine.docker(
        "run",
        "-d",
        "--name",
        name,
        "--restart",
        "on-failure:1",
        "busybox",
        "sh",
        "-c",
        "echo x; sleep 0.6; exit 1",
    )
    engine.kill(*SERVICES)
    engine.wait_ready()
    wait_until(lambda: state(engine, name)["Status"] == "exited", "it was restarted once and ended")
    assert engine.docker("logs", name).stdout == "x\nx\n"


def test_killed_supervisor(engine: Engine, name: str) -> None:
    """wharfd itself killed: its services end, containers live, and the next wharfd adopts them."""
    counter(engine, name)
    pid = state(engine, name)["Pid"]
    assert engine.process is not None
    services = set(engine.service_pids().values())
    engine.process.kill()
    engine.process.wait()
    wait_until(lambda: not any(_alive(pid) for pid in services), "the services have ended")
    assert _alive(pid)
    engine.start()
    assert state(engine, name)["Pid"] == pid
    assert is_counted(logged(engine, name))
    check_no_orphans(engine, set())


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_shim_that_outlives_its_zygote_leaves_no_zombie(engine: Engine, name: str) -> None:
    """It is adopted by ``wharfd``, and reaped there: pid 1 may be anything."""
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    pid = shim(engine, engine.client.api.inspect_container(name)["Id"])
    engine.kill("containerd-shim")
    assert engine.process is not None
    wait_until(lambda: parent_of(pid) == engine.process.pid, "the shim is adopted")
    engine.wait_ready()
    engine.docker("rm", "-f", name)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the shim is reaped")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
