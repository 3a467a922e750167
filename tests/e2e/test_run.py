"""``docker run``: what a container sees and what its client gets back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.harness.engine import Engine

Run = Callable[..., str]


def test_output(run: Run) -> None:
    assert run("busybox", "echo", "hello") == "hello\n"


@pytest.mark.parametrize("status", [0, 1, 3, 125, 255])
def test_exit_status(engine: Engine, docker_command: str, status: int) -> None:
    done = engine.docker("run", "--rm", "busybox", "sh", "-c", f"exit {status}", check=False)
    assert done.returncode == status


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["/etc"], 126, "is a directory"),
        (["/etc/passwd"], 126, "permission denied"),
    ],
)
def test_what_cannot_be_executed(
    engine: Engine, docker_command: str, command: list[str], status: int, text: str
) -> None:
    done = engine.docker("run", "--rm", "busybox", *command, check=False)
    assert done.returncode == status
    assert text in done.stderr


def test_death_by_signal(engine: Engine, docker_command: str) -> None:
    done = engine.docker("run", "--rm", "--init=false", "busybox", "sh", "-c", "kill -9 $$", check=False)
    # PID 1 ignores its own SIGKILL: the shell ends normally.
    assert done.returncode in (0, 137)
    done = engine.docker("run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?", check=False)
    assert done.returncode == 143


def test_streams_are_apart(engine: Engine, docker_command: str) -> None:
    done = engine.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_stdin(run: Run) -> None:
    text = "".join(f"line {number}\n" for number in range(5000))
    assert run("-i", "busybox", "cat", stdin=text) == text
    assert run("-i", "busybox", "wc", "-l", stdin=text).strip() == "5000"


def test_large_output_is_whole(run: Run) -> None:
    out = run("busybox", "sh", "-c", "seq 1 200000")
    assert out == "".join(f"{number}\n" for number in range(1, 200001))


def test_environment_and_directory(run: Run) -> None:
    out = run("-e", "A=b c", "-w", "/var/www", "busybox", "sh", "-c", "echo $A; pwd; echo $HOME; echo $PATH")
    assert out.splitlines() == [
        "b c",
        "/var/www",
        "/root",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]


def test_user(run: Run) -> None:
    assert run("-u", "nobody", "busybox", "id", "-u").strip() == "65534"
    assert run("-u", "1234:5678", "busybox", "sh", "-c", "id -u; id -g").split() == ["1234", "5678"]


def test_hostname_and_hosts(run: Run) -> None:
    out = run("--hostname", "box", "busybox", "sh", "-c", "hostname; cat /etc/hostname; cat /etc/hosts")
    lines = out.splitlines()
    assert lines[:2] == ["box", "box"]
    assert any(line.split()[0].count(".") == 3 and line.endswith("box") for line in lines[2:])


def test_namespaces(run: Run) -> None:
    assert run("busybox", "sh", "-c", "echo $$").strip() == "1"
    processes = run("busybox", "ps", "-o", "pid").split()
    assert processes == ["PID", "1"]


def test_readonly_root(engine: Engine, docker_command: str) -> None:
    done = engine.docker("run", "--rm", "--read-only", "busybox", "touch", "/x", check=False)
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    engine.docker("run", "--rm", "--read-only", "--tmpfs", "/t", "busybox", "touch", "/t/x")


def test_root_file_system_is_of_one_container(run: Run) -> None:
    run("busybox", "touch", "/mine")
    assert "mine" not in run("busybox", "ls", "/")


def test_memory_limit_and_oom(engine: Engine, docker_command: str, name: str) -> None:
    done = engine.docker(
        "run",
        "--name",
        name,
        "-m",
        "16m",
        "busybox",
        "sh",
        "-c",
        "x=a; while :; do x=$x$x; done",
        check=False,
    )
    assert done.returncode == 137
    state = json.loads(engine.docker("inspect", name).stdout)[0]["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)


def test_pids_limit(engine: Engine, docker_command: str) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done"
    done = engine.docker("run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", script, check=False)
    assert done.returncode == 2
    assert "can't fork: Resource temporarily unavailable" in done.stderr


def test_capabilities_and_privileges(run: Run) -> None:
    status = run("--security-opt", "no-new-privileges", "busybox", "cat", "/proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"
    assert fields["CapEff"].strip() == "00000000a80425fb"
    dropped = run("--cap-drop", "ALL", "busybox", "grep", "CapEff", "/proc/self/status")
    assert dropped.split()[1] == "0" * 16


def test_seccomp_profile_is_applied(engine: Engine, docker_command: str) -> None:
    done = engine.docker("run", "--rm", "busybox", "unshare", "-m", "true", check=False)
    assert done.returncode == 1
    assert "Operation not permitted" in done.stderr


def test_masked_and_readonly_paths(run: Run) -> None:
    script = "ls -A /sys/firmware | wc -w; touch /proc/sys/kernel/domainname 2>&1; true"
    masked, error = run("busybox", "sh", "-c", script).splitlines()
    assert masked == "0"
    assert error.endswith("Read-only file system")


def test_init_reaps(run: Run) -> None:
    """A process that nobody waits for is there, with its number, until the init has reaped it."""
    orphan = "(sh -c 'echo $$ > /tmp/pid; exec sleep 0.1' &)"
    known = "until test -s /tmp/pid; do usleep 10000; done"
    there = "kill -0 $(cat /tmp/pid) 2>/dev/null && test $n -lt 900"
    gone = f"n=0; while {there}; do n=$((n+1)); usleep 100000; done"
    out = run("--init", "busybox", "sh", "-c", f"{orphan}; {known}; {gone}; ps -o pid,stat,comm")
    assert " Z" not in out
    assert "docker-init" in out


def test_unknown_image(engine: Engine, docker_command: str) -> None:
    done = engine.docker("run", "--rm", "--pull", "never", "nosuch:1", check=False)
    assert done.returncode == 125
    assert "No such image: nosuch:1" in done.stderr


def test_detached(engine: Engine, docker_command: str, name: str) -> None:
    identity = engine.docker("run", "-d", "--name", name, "busybox", "sleep", "60").stdout.strip()
    assert len(identity) == 64
    assert engine.docker("ps", "-q", "--no-trunc", "-f", f"name={name}").stdout.strip() == identity
