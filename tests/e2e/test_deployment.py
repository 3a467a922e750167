"""``supervisord -c supervisor.conf``: the same tree under an administrator's supervisord."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import SESSION
from tests.harness.engine import REPOSITORY, SERVICES
from tests.harness.images import busybox_archive
from tests.harness.network import remove_bridge, remove_tables
from tests.harness.readiness import answers, remove_tree, wait_until

pytestmark = pytest.mark.usefixtures("docker_command")

BIN = Path(sys.executable).parent
BRIDGE = f"wht{SESSION}s"


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix=f"wh-{SESSION}-s", dir="/tmp"))
    yield path
    remove_bridge(BRIDGE)
    remove_tables(BRIDGE)
    remove_tree(path)


def moved(root: Path) -> Path:
    """The configuration with its fixed paths below *root*; all else is as deployed."""
    text = (REPOSITORY / "supervisor.conf").read_text()
    text = text.replace('"%(here)s/.venv/bin/python"', sys.executable)
    flags = f"--data-root {root}/d --bridge {BRIDGE} --config-file {root}/daemon.json"
    text = text.replace("launch.settings ", f"launch.settings {flags} ")
    text = text.replace("/run/wharfd", f"{root}/x").replace("/var/log/wharfd-", f"{root}/log-")
    (root / "daemon.json").write_text("{}")
    path = root / "supervisor.conf"
    path.write_text(text)
    return path


def test_supervisord(root: Path) -> None:
    configuration = moved(root)
    socket = root / "x/docker.sock"

    def supervisorctl(*arguments: str) -> str:
        command = [BIN / "supervisorctl", "-c", configuration, *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout

    def states() -> dict[str, str]:
        return {line.split()[0]: line.split()[1] for line in supervisorctl("status").splitlines()}

    def docker(*arguments: str, data: bytes | None = None) -> str:
        command = ["docker", "-H", f"unix://{socket}", *arguments]
        return subprocess.run(command, input=data, check=True, capture_output=True).stdout.decode()

    daemon = subprocess.Popen([BIN / "supervisord", "-n", "-s", "-c", configuration], cwd=REPOSITORY)
    try:
        wait_until(lambda: answers(socket, "/version"), "wharfd answers")
        expected = dict.fromkeys(SERVICES, "RUNNING") | {"settings": "EXITED"}
        wait_until(lambda: states() == expected, "all services run, and the settings are written")
        docker("load", "-q", data=busybox_archive())
        docker("run", "-d", "--name", "lives", "--stop-signal", "KILL", "busybox", "sleep", "300")
        before = docker("inspect", "-f", "{{.State.Pid}}", "lives")
        supervisorctl("restart", "containerd-shim", "engine", "apiserver")
        wait_until(lambda: answers(socket, "/version"), "wharfd answers again")
        assert docker("inspect", "-f", "{{.State.Pid}}", "lives") == before
        supervisorctl("shutdown")
        assert daemon.wait(120) == 0
        assert not Path(f"/proc/{before.strip()}").exists()
        assert json.loads((root / "x/settings.json").read_text())["supervisor"] == daemon.pid
    finally:
        daemon.kill()
        daemon.wait()
