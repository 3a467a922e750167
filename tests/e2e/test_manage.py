"""What managing containers does at the edges: ``cp``, ``kill`` of a paused one, ``events``, ``logs``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.engine import Engine


@pytest.fixture
def sleeper(engine: Engine, docker_command: str) -> Iterator[str]:
    engine.docker("run", "-d", "--name", "sleeper", "--tmpfs", "/tm", "-v", "/vol", "busybox", "sleep", "300")
    yield "sleeper"
    engine.docker("rm", "-fv", "sleeper")


def test_copies_see_the_layer_and_volumes_only(engine: Engine, sleeper: str, tmp_path: Path) -> None:
    engine.docker("exec", sleeper, "sh", "-c", "echo v > /vol/f; echo t > /tm/f")
    engine.docker("cp", f"{sleeper}:/vol/f", f"{tmp_path}/f")
    assert (tmp_path / "f").read_text() == "v\n"
    for hidden in ("/tm/f", "/proc/version", "/dev/null"):
        done = engine.docker("cp", f"{sleeper}:{hidden}", f"{tmp_path}/x", check=False)
        assert f"Could not find the file {hidden} in container sleeper" in done.stderr
    done = engine.docker("cp", f"{tmp_path}/f", f"{sleeper}:/etc/hosts", check=False)
    assert "unlinkat /etc/hosts: device or resource busy" in done.stderr
    assert engine.docker("cp", f"{sleeper}:/etc/hostname", "-").stdout


def test_copying_before_the_start_makes_a_file_for_a_mounted_file(engine: Engine, tmp_path: Path) -> None:
    """What Compose does for a service with a secret from a file and a config from text."""
    (tmp_path / "secret").write_text("s\n")
    (tmp_path / "config").write_text("c\n")
    (tmp_path / "d").mkdir()
    mounts = ["-v", f"{tmp_path}/secret:/run/secrets/s:ro", "-v", f"{tmp_path}/d:/new/d"]
    engine.docker("create", "--name", "fresh", *mounts, "busybox", "cat", "/run/secrets/s", "/c")
    try:
        engine.docker("cp", f"{tmp_path}/config", "fresh:/c")
        assert engine.docker("start", "-a", "fresh").stdout == "s\nc\n"
    finally:
        engine.docker("rm", "fresh")


def test_killing_a_paused_container(engine: Engine, sleeper: str) -> None:
    engine.docker("pause", sleeper)
    engine.docker("kill", sleeper)
    assert engine.docker("wait", sleeper).stdout == "137\n"


def _actions(engine: Engine, began: float, *filters: str) -> list[str]:
    """Of all events since *began*, Unix seconds."""
    window = ["--since", f"{began:.9f}", "--until", f"{time.time():.9f}", "--format", "json"]
    return [
        json.loads(line)["Action"] for line in engine.docker("events", *window, *filters).stdout.splitlines()
    ]


def test_events_of_looking_into_a_container(engine: Engine, sleeper: str, tmp_path: Path) -> None:
    began = time.time()
    engine.docker("network", "create", "seen")
    try:
        (tmp_path / "f").write_text("x")
        engine.docker("cp", f"{tmp_path}/f", f"{sleeper}:/f")
        engine.docker("cp", f"{sleeper}:/f", f"{tmp_path}/g")
        engine.docker("top", sleeper)
        engine.docker("exec", sleeper, "true")
        engine.docker("exec", sleeper, "nosuch", check=False)
        engine.docker("network", "connect", "seen", sleeper)
        engine.docker("network", "disconnect", "seen", sleeper)
    finally:
        engine.docker("network", "rm", "seen")
    assert _actions(engine, began) == [
        "create", "extract-to-dir", "archive-path", "top", "exec_create: true ", "exec_start: true ",
        "exec_die", "exec_create: nosuch ", "exec_start: nosuch ", "connect", "disconnect", "destroy",
    ]  # fmt: skip


def test_events_of_a_start_without_its_port(engine: Engine, docker_command: str) -> None:
    began = time.time()
    done = engine.docker("run", "--rm", "-p", "192.0.2.1:5:6", "busybox", "true", check=False)
    assert "failed to bind host port 192.0.2.1:5/tcp: cannot assign requested address" in done.stderr
    assert _actions(engine, began) == ["create", "attach", "disconnect", "destroy"]


def test_events_of_a_commit_and_a_prune(engine: Engine, docker_command: str) -> None:
    began = time.time()
    for name in ("older", "newer"):
        engine.docker("create", "--name", name, "busybox", "true")
    engine.docker("commit", "older", "committed:1")
    engine.docker("rmi", "committed:1")
    assert _actions(engine, began, "--filter", "type=image") == ["create", "tag", "untag", "delete"]
    ids = engine.docker("ps", "-aq", "--no-trunc", "--filter", "status=created").stdout.split()
    pruned = engine.docker("container", "prune", "-f").stdout.splitlines()
    assert pruned[:3] == ["Deleted Containers:", *ids] and len(ids) == 2  # as listed: the newest first


def test_details_of_a_log_without_any(engine: Engine, docker_command: str) -> None:
    engine.docker("run", "--name", "plain", "busybox", "echo", "line")
    assert engine.docker("logs", "--details", "plain").stdout == " line\n"
    engine.docker("rm", "plain")
