"""A container's life through the docker command: states, codes, policies, removal."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

pytestmark = pytest.mark.usefixtures("docker_command")


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("inspect", name).stdout)[0]
    return found


def state(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = inspect(engine, name)["State"]
    return found


def test_states(engine: Engine, name: str) -> None:
    engine.docker("create", "--name", name, "busybox", "sleep", "300")
    assert state(engine, name)["Status"] == "created"
    engine.docker("start", name)
    running = state(engine, name)
    assert (running["Status"], running["Running"]) == ("running", True)
    assert running["Pid"] > 0
    engine.docker("pause", name)
    assert state(engine, name)["Status"] == "paused"
    engine.docker("unpause", name)
    engine.docker("kill", name)
    wait_until(lambda: state(engine, name)["Status"] == "exited", "exited")
    assert state(engine, name)["ExitCode"] == 137
    engine.docker("start", name)
    assert state(engine, name)["Running"]
    engine.docker("rm", "-f", name)
    assert "No such" in engine.docker("inspect", name, check=False).stderr


def test_stop_gives_time_then_kills(engine: Engine, name: str) -> None:
    engine.docker(
        "run", "-d", "--stop-timeout", "300", "--name", name, "busybox", "sh", "-c",
        "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done",
    )  # fmt: skip
    wait_until(lambda: engine.docker("logs", name).stdout == "up\n", "the trap is set")
    engine.docker("stop", name)
    assert state(engine, name)["ExitCode"] == 9
    engine.docker("rm", name)
    engine.docker("run", "-d", "--stop-timeout", "300", "--name", name, "busybox", "sleep", "1000")
    began = time.monotonic()
    engine.docker("stop", "-t", "1", name)
    assert 0.9 < time.monotonic() - began < 200
    assert state(engine, name)["ExitCode"] == 137


def test_kill_with_a_signal(engine: Engine, name: str) -> None:
    engine.docker(
        "run",
        "-d",
        "--name",
        name,
        "busybox",
        "sh",
        "-c",
        "trap 'echo got' USR1; echo up; while :; do sleep 0.05; done",
    )
    wait_until(lambda: engine.docker("logs", name).stdout == "up\n", "the trap is set")
    engine.docker("kill", "-s", "USR1", name)
    wait_until(lambda: "got" in engine.docker("logs", name).stdout, "the signal is seen")
    assert state(engine, name)["Running"]


def test_wait_and_exit_code(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "sleep 0.5; exit 17")
    assert engine.docker("wait", name).stdout.strip() == "17"


def test_restart(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    first = state(engine, name)["Pid"]
    engine.docker("restart", "-t", "0", name)
    assert state(engine, name)["Pid"] != first


def test_restart_policy_on_failure(engine: Engine, name: str) -> None:
    engine.docker(
        "run", "-d", "--name", name, "--restart", "on-failure:2", "busybox", "sh", "-c", "echo x; exit 1"
    )
    wait_until(
        lambda: (
            (document := inspect(engine, name))["RestartCount"] == 2
            and document["State"]["Status"] == "exited"
        ),
        "two restarts",
    )
    assert engine.docker("logs", name).stdout == "x\n" * 3


def test_restart_policy_always(engine: Engine, name: str) -> None:
    engine.docker(
        "run", "-d", "--name", name, "--restart", "always", "busybox", "sh", "-c", "sleep 0.2; exit 0"
    )
    wait_until(lambda: inspect(engine, name)["RestartCount"] >= 2, "restarts")
    engine.docker("stop", "-t", "1", name)
    time.sleep(0.5)
    assert state(engine, name)["Status"] == "exited"


def test_names_and_prefixes(engine: Engine, name: str) -> None:
    identity = engine.docker("create", "--name", name, "busybox").stdout.strip()
    assert inspect(engine, identity[:12])["Name"] == f"/{name}"
    done = engine.docker("create", "--name", name, "busybox", check=False)
    assert f'The container name "/{name}" is already in use by container "{identity}"' in done.stderr
    engine.docker("rename", name, f"{name}-b")
    assert inspect(engine, f"{name}-b")["Id"] == identity
    engine.docker("rm", f"{name}-b")


def test_ps_and_filters(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "--label", f"who={name}", "busybox", "sleep", "300")
    line = engine.docker(
        "ps", "-f", f"label=who={name}", "--format", "{{.Names}} {{.Image}} {{.State}}"
    ).stdout
    assert line == f"{name} busybox running\n"
    assert engine.docker("ps", "-q", "-f", f"label=who={name}", "-f", "status=exited").stdout == ""


def test_remove_running_is_refused(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    done = engine.docker("rm", name, check=False)
    assert done.returncode == 1
    assert "container is running: stop the container before removing or force remove" in done.stderr


def test_auto_remove(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--rm", "--name", name, "busybox", "sleep", "300")
    engine.docker("kill", name)
    wait_until(
        lambda: engine.docker("inspect", name, check=False).returncode == 1, "the container is removed"
    )


def test_top_and_rename_while_running(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    assert "sleep 300" in engine.docker("top", name).stdout


def test_events(engine: Engine, name: str) -> None:
    since = str(time.time())
    engine.docker("run", "--rm", "--name", name, "busybox", "true")
    out = engine.docker(
        "events",
        "--since",
        since,
        "--until",
        str(time.time() + 1),
        "-f",
        f"container={name}",
        "--format",
        "{{.Action}}",
    ).stdout
    actions = out.split()
    for action in ("create", "start", "die", "destroy"):
        assert action in actions
    assert actions.index("create") < actions.index("start") < actions.index("die") < actions.index("destroy")


def test_signalled_client_ends_its_container(engine: Engine, name: str) -> None:
    """``docker run`` forwards signals to a container without a terminal."""
    script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
    command = engine.popen("run", "--name", name, "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
    assert command.stdout is not None
    assert command.stdout.readline() == b"up\n"
    command.send_signal(signal.SIGTERM)
    assert command.wait(90) == 5
    command.stdout.close()
