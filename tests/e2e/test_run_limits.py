"""``docker run``: where the program is looked up, limits, and what the runtime refuses, in runc's words."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness.engine import Engine
from tests.harness.readiness import wait_until


def test_program_relative_to_the_working_directory(engine: Engine, docker_command: str) -> None:
    done = engine.docker("run", "--rm", "-w", "/bin", "busybox", "./echo", "found", check=False)
    assert done.stdout == "found\n"
    done = engine.docker("run", "--rm", "-w", "/etc", "busybox", "./passwd", check=False)
    assert done.returncode == 126
    assert 'exec: "./passwd": permission denied' in done.stderr


def test_program_that_the_user_may_not_see(engine: Engine, docker_command: str) -> None:
    done = engine.docker("run", "--rm", "-u", "1000", "busybox", "/root/x", check=False)
    assert done.returncode == 126
    assert 'exec: "/root/x": stat /root/x: permission denied' in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--cpus", "0.001"], "error setting cgroup config for procHooks process: failed to write"),
        (["--cpu-shares", "1"], "procHooks process: the minimum allowed cpu-shares is 2"),
        (["-v", "/tmp:/proc"], '"/proc" cannot be mounted because it is not of type proc'),
        (["--tmpfs", "/proc"], '"/proc" cannot be mounted because it is not of type proc'),
        (["--uts", "host", "--domainname", "x.test"], 'sysctl "kernel.domainname" is not in a separate'),
        (
            ["--device", "vendor.test/class=one"],
            "CDI device injection failed: unresolvable CDI devices vendor",
        ),
    ],
)
def test_refused(engine: Engine, docker_command: str, options: list[str], text: str) -> None:
    done = engine.docker("run", "--rm", *options, "busybox", "true", check=False)
    assert done.returncode == 125
    assert text in done.stderr


def test_an_empty_home_is_none(engine: Engine, docker_command: str) -> None:
    done = engine.docker("run", "--rm", "-e", "HOME=", "busybox", "env")
    assert done.stdout.splitlines()[2:] == ["HOME=/root"]


def test_devices_as_runc_lists_them(engine: Engine, docker_command: str) -> None:
    """tun may be used by whom may make it."""
    path = "/sys/fs/cgroup/devices/devices.list"
    if not Path(path).exists():
        pytest.skip("devices are not limited by cgroup v1 here")
    done = engine.docker("run", "--rm", "--device-cgroup-rule", "b 7:* r", "busybox", "cat", path)
    assert done.stdout.splitlines() == [
        "b *:* m",
        "c *:* m",
        *(f"c 1:{minor} rwm" for minor in (3, 5, 7, 8, 9)),
        *(f"c 5:{minor} rwm" for minor in (0, 1, 2)),
        "b 7:* r",
        "c 10:200 rwm",
        "c 136:* rwm",
    ]


def _disk(path: Path) -> Path | None:
    """The block device that *path* is on."""
    number = path.stat().st_dev
    link = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return Path("/dev") / link.resolve().name if link.exists() else None


def test_a_slow_disk_does_not_hold_up_the_exit(engine: Engine, docker_command: str) -> None:
    """The unmount writes what is dirty: not at the pace of the container's own limit."""
    disk = _disk(engine.data_root)
    if disk is None or not disk.exists():
        pytest.skip("the data root is not on a block device")
    limit = ["--device-write-bps", f"{disk}:1kb", "--device-write-iops", f"{disk}:1"]
    done = engine.docker("run", "--rm", *limit, "busybox", "sh", "-c", "seq 1 99999 > /f", timeout=90)
    assert done.stderr == ""


def test_health_check_that_cannot_be_started(engine: Engine, docker_command: str) -> None:
    check = {"test": ["CMD", "/nosuch"], "interval": 100_000_000}
    engine.client.containers.run("busybox", ["sleep", "60"], name="sicker", detach=True, healthcheck=check)
    results: list[dict[str, object]] = []
    deadline = time.monotonic() + 90
    while not results and time.monotonic() < deadline:
        results = json.loads(engine.docker("inspect", "-f", "{{json .State.Health.Log}}", "sicker").stdout)
    assert results[0]["ExitCode"] == -1
    assert str(results[0]["Output"]).endswith('exec: "/nosuch": stat /nosuch: no such file or directory')
    engine.docker("rm", "-f", "sicker")


def test_what_is_kept_of_health_checks(engine: Engine, docker_command: str) -> None:
    check = {"test": ["CMD-SHELL", "head -c 5000 /dev/zero | tr '\\0' x"], "interval": 100_000_000}
    engine.client.containers.run("busybox", ["sleep", "600"], name="verbose", detach=True, healthcheck=check)

    def health() -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            engine.docker("inspect", "-f", "{{json .State.Health}}", "verbose").stdout
        )
        return document

    wait_until(lambda: bool(health()["Log"]), "there is a result")
    assert health()["Log"][0]["Output"] == "x" * 4096 + "..."
    engine.docker("pause", "verbose")
    assert health()["Status"] == "unhealthy"
    engine.docker("unpause", "verbose")
    engine.docker("restart", "-t", "0", "verbose")
    assert health()["Log"], "what earlier probes said is kept"
    engine.docker("rm", "-f", "verbose")
