"""What wharfd does before and around its services: locks, host checks, the supervisor's configuration."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.engine.launch import host, main, tree
from services.engine.launch.pidfile import StillRunning, directory_lock, pid_file
from services.protocol.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[3]


def test_pid_file_is_held_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "run/wharfd.pid"
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"
        with (
            pytest.raises(StillRunning, match=f"process with PID {os.getpid()} is still running"),
            pid_file(path),
        ):
            pass
    assert not path.exists()


def test_pid_file_of_a_dead_daemon_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "wharfd.pid"
    path.write_text("1\n")  # a process of that number lives, but it does not hold the file
    with pid_file(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_directory_has_one_daemon(tmp_path: Path) -> None:
    with directory_lock(tmp_path), pytest.raises(StillRunning, match="in use"), directory_lock(tmp_path):
        pass


def test_missing_dependency_is_one_line_with_the_package() -> None:
    dependency = host.Dependency("libnowhere.so.7", "libnowhere7", lambda name: False)
    text = host.missing_dependencies([dependency])
    assert text == ("missing system dependencies: libnowhere.so.7 (Debian: apt-get install libnowhere7)")


def test_kernel_checks(tmp_path: Path) -> None:
    assert "version 4.19.0 is not supported: 5.12" in host.kernel_problem("4.19.0", tmp_path)
    assert "version 5.10.0-30-amd64 is not supported" in host.kernel_problem("5.10.0-30-amd64", tmp_path)
    assert "namespaces" in host.kernel_problem("6.1.0", tmp_path)


def _programs(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def test_generated_tree() -> None:
    sections = _programs(tree.configuration(Settings(exec_root="/run/100%", shutdown_timeout=7)))
    assert sections["supervisord"]["pidfile"] == "/run/100%%/supervisord.pid"
    priorities = {name: int(values["priority"]) for name, values in sections.items() if "priority" in values}
    order = sorted(priorities, key=priorities.__getitem__)
    assert order == ["program:containerd-shim", "program:engine", "program:apiserver"]
    assert sections["program:engine"]["stopwaitsecs"] == "17"
    for name in order:
        assert sections[name]["autorestart"] == "true"
        assert sections[name]["killasgroup"] == sections[name]["stopasgroup"] == "false"


def test_supervisor_conf_is_the_same_tree() -> None:
    deployed = _programs((REPOSITORY / "supervisor.conf").read_text())
    generated = _programs(tree.configuration(Settings()))
    for name in ("program:containerd-shim", "program:engine", "program:apiserver"):
        ours, theirs = generated[name], deployed[name]
        assert theirs["command"].split(" ", 1)[1] == ours["command"].split(" ", 1)[1].replace('"', "")
        for key in ("priority", "autorestart", "stopwaitsecs", "stopasgroup", "killasgroup", "environment"):
            assert theirs[key] == ours[key].replace(sys.prefix, "%(here)s/.venv")


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["--version"], 0, "wharfd version "),
        (["--help"], 0, "Usage:\twharfd [OPTIONS]"),
        (["--validate", "--config-file", "{empty}"], 0, "configuration OK"),
        (["--validate", "--config-file", "{empty}", "--mtu=-1"], 1, "invalid default MTU: -1"),
        (["--nope"], 1, "unknown flag: --nope\nSee 'wharfd --help'."),
        (
            ["--swarm-default-advertise-addr=x"],
            1,
            "--swarm-default-advertise-addr is not implemented by wharfd",
        ),
    ],
)
def test_command(
    argv: list[str], status: int, text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "daemon.json"
    empty.write_text("{}")
    assert main.main([word.format(empty=empty) for word in argv]) == status
    out, err = capfd.readouterr()
    assert text in out + err


def test_needs_root(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.engine.launch.main", "--exec-root", str(tmp_path / "x")]
    drop = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, **drop)
    except PermissionError:
        pytest.skip("an unprivileged user cannot run this interpreter")
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("an unprivileged user cannot read the source tree")
    assert done.returncode == 1
    assert "wharfd needs to be started with root privileges" in done.stderr
