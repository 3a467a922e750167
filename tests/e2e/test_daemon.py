"""The daemon as its administrator has it: flags, several on one host, stop, restart, supervisorctl."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.engine import REPOSITORY, SERVICES, Engine
from tests.harness.readiness import wait_until

pytestmark = pytest.mark.usefixtures("docker_command")


@pytest.fixture
def daemon() -> Iterator[Engine]:
    """A daemon of the test's own, to be stopped and started by it."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    own = Engine()
    try:
        own.start()
        own.load_images()
        yield own
    finally:
        own.close()


def test_process_titles(engine: Engine) -> None:
    titles = {
        name: Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
        for name, pid in engine.service_pids().items()
    }
    assert titles == {name: f"wharfd: {name}" for name in SERVICES}


def test_supervisorctl(engine: Engine) -> None:
    command = [
        Path(sys.executable).parent / "supervisorctl", "-c", engine.exec_root / "supervisor.conf", "status",
    ]  # fmt: skip

    def states() -> dict[str, str]:
        out = subprocess.run(command, capture_output=True, text=True).stdout
        return {line.split()[0]: line.split()[1] for line in out.splitlines()}

    wait_until(lambda: states() == dict.fromkeys(SERVICES, "RUNNING"), "all services run")


def test_a_second_daemon_on_the_same_roots_is_refused(engine: Engine) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "services.engine.launch.main", "--exec-root", engine.exec_root,
            "--data-root", engine.data_root, "-H", engine.host,
        ],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert done.returncode == 1
    assert engine.process is not None
    assert f"process with PID {engine.process.pid} is still running" in done.stderr


def test_two_daemons(engine: Engine, daemon: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    daemon.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    first = json.loads(engine.docker("inspect", name).stdout)[0]
    second = json.loads(daemon.docker("inspect", name).stdout)[0]
    assert first["Id"] != second["Id"]
    addresses = [item["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] for item in (first, second)]
    assert addresses[0].rpartition(".")[0] != addresses[1].rpartition(".")[0]
    daemon.docker("rm", "-f", name)
    assert json.loads(engine.docker("inspect", name).stdout)[0]["State"]["Running"]


def test_stop_ends_containers_and_start_finds_them(daemon: Engine) -> None:
    daemon.docker(
        "run",
        "-d",
        "--name",
        "stays",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done",
    )
    daemon.docker("run", "-d", "--name", "back", "--restart", "always", "busybox", "sleep", "300")
    pid = int(daemon.docker("inspect", "-f", "{{.State.Pid}}", "stays").stdout)
    wait_until(lambda: daemon.docker("logs", "stays").stdout == "up\n", "the trap is set")
    assert daemon.stop() == 0
    assert not Path(f"/proc/{pid}").exists()
    daemon.start()
    state = json.loads(daemon.docker("inspect", "stays").stdout)[0]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    wait_until(
        lambda: daemon.docker("inspect", "-f", "{{.State.Running}}", "back").stdout == "true\n", "restarted"
    )
    assert daemon.docker("run", "--rm", "busybox", "echo", "again").stdout == "again\n"


def test_live_restore_keeps_containers(daemon: Engine) -> None:
    daemon.restart("--live-restore")
    daemon.docker("run", "-d", "--name", "lives", "busybox", "sleep", "300")
    before = daemon.docker("inspect", "-f", "{{.State.Pid}}", "lives").stdout
    assert daemon.stop() == 0
    assert Path(f"/proc/{before.strip()}").exists()
    daemon.start("--live-restore")
    assert daemon.docker("inspect", "-f", "{{.State.Pid}} {{.State.Status}}", "lives").stdout == (
        f"{before.strip()} running\n"
    )
    assert daemon.docker("exec", "lives", "echo", "ok").stdout == "ok\n"


def test_sigterm_to_a_service_is_a_restart_of_it_alone(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    before = engine.docker("inspect", "-f", "{{.State.Pid}}", name).stdout
    for service in SERVICES:
        engine.kill(service, number=signal.SIGTERM)
        engine.wait_ready()
        assert engine.docker("inspect", "-f", "{{.State.Pid}}", name).stdout == before
    assert engine.docker("exec", name, "echo", "ok").stdout == "ok\n"


def test_stacks_of_threads_and_tasks_are_printed_on_request(engine: Engine) -> None:
    assert engine.process is not None
    engine.process.send_signal(signal.SIGUSR1)
    wanted = ("Current thread", "Task containers:monitor")
    wait_until(lambda: all(stack in engine.log.read_text() for stack in wanted), "stacks")
    engine.docker("version")
    assert "Exception in callback" not in engine.log.read_text()


def test_reload(daemon: Engine) -> None:
    assert daemon.process is not None
    (daemon.root / "daemon.json").write_text('{"labels": ["fresh=1"]}')
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.client.info()["Labels"] == ["fresh=1"], "the labels are reloaded")
    (daemon.root / "daemon.json").write_text('{"labels": 1')
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "was not reloaded" in daemon.log_tail(), "the broken file is reported")
    assert daemon.client.info()["Labels"] == ["fresh=1"]


def test_what_cannot_start_ends_the_daemon() -> None:
    own = Engine()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        try:
            with pytest.raises(AssertionError, match=f"listen tcp {address}: Address already in use"):
                own.start("-H", f"tcp://{address}")
            assert own.process is not None
            assert own.process.wait(60) == 1
        finally:
            own.close()
