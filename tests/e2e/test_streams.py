"""Logs, exec and attach, through the docker command and raw connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.engine import Engine
from tests.harness.readiness import wait_until
from tests.harness.streams import Stream

pytestmark = pytest.mark.usefixtures("docker_command")


def test_logs(engine: Engine, name: str) -> None:
    engine.docker(
        "run", "--name", name, "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; echo e >&2"
    )
    done = engine.docker("logs", name)
    assert done.stdout == "".join(f"line {number}\n" for number in range(1, 6))
    assert done.stderr == "e\n"
    assert engine.docker("logs", "--tail", "2", name).stdout + "" in ("line 5\n", "line 4\nline 5\n")
    stamped = engine.docker("logs", "-t", name).stdout.splitlines()
    assert all(line.split()[0].endswith("Z") for line in stamped)
    assert engine.docker("logs", "--since", "1h", name).stdout == done.stdout
    assert engine.docker("logs", "--until", "1h", name).stdout == ""


def test_follow_ends_with_the_container(engine: Engine, name: str) -> None:
    engine.docker(
        "run", "-d", "--name", name, "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done"
    )
    assert engine.docker("logs", "-f", name).stdout == "1\n2\n3\n"


def test_log_file_is_where_others_read_it(engine: Engine, name: str) -> None:
    engine.docker("run", "--name", name, "busybox", "echo", "x")
    path = Path(engine.docker("inspect", "-f", "{{.LogPath}}", name).stdout.strip())
    assert path.name.endswith("-json.log")
    assert '"log":"x\\n","stream":"stdout","time":"' in path.read_text()


def test_rotation(engine: Engine, name: str) -> None:
    engine.docker(
        "run",
        "--name",
        name,
        "--log-opt",
        "max-size=10k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "seq",
        "1",
        "1000",
    )
    path = Path(engine.docker("inspect", "-f", "{{.LogPath}}", name).stdout.strip())
    files = sorted(file.name for file in path.parent.glob("*-json.log*"))
    assert len(files) == 3
    lines = engine.docker("logs", name).stdout.split()
    assert lines[-1] == "1000"
    assert lines == [str(number) for number in range(int(lines[0]), 1001)]


def test_exec(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    assert engine.docker("exec", name, "echo", "in").stdout == "in\n"
    assert engine.docker("exec", "-i", name, "cat", stdin="through\n").stdout == "through\n"
    assert engine.docker("exec", name, "sh", "-c", "exit 6", check=False).returncode == 6
    done = engine.docker("exec", name, "nosuch", check=False)
    assert done.returncode == 127
    assert "executable file not found in $PATH" in done.stdout + done.stderr
    out = engine.docker(
        "exec", "-u", "nobody", "-w", "/tmp", "-e", "X=1", name, "sh", "-c", "id -u; pwd; echo $X"
    ).stdout
    assert out.split() == ["65534", "/tmp", "1"]
    engine.docker("exec", "-d", name, "touch", "/made")
    wait_until(
        lambda: engine.docker("exec", name, "ls", "/made", check=False).returncode == 0, "/made is there"
    )


def test_exec_in_a_stopped_container_is_refused(engine: Engine, name: str) -> None:
    identity = engine.docker("create", "--name", name, "busybox").stdout.strip()
    done = engine.docker("exec", name, "true", check=False)
    assert done.returncode == 1
    assert f"container {identity} is not running" in done.stderr


def test_attach_sees_output_and_exit_code(engine: Engine, name: str) -> None:
    engine.docker("create", "-i", "--name", name, "busybox", "sh", "-c", "read x; echo got $x; exit 4")
    engine.docker("start", name)
    done = engine.docker("attach", name, stdin="word\n", check=False)
    assert (done.stdout, done.returncode) == ("got word\n", 4)


def test_half_close_of_stdin(engine: Engine, name: str) -> None:
    """The end of standard input reaches the container while its output goes on."""
    api = engine.client.api
    # docker-py makes it StdinOnce.
    identity = api.create_container(
        "busybox", ["sh", "-c", "wc -c; sleep 0.3; echo end"], name=name, stdin_open=True
    )["Id"]
    api.start(identity)
    stream = Stream(
        engine.socket, "POST", f"/containers/{identity}/attach?stream=1&stdin=1&stdout=1", upgrade=True
    )
    assert stream.status == 101
    stream.socket.sendall(b"12345")
    stream.socket.shutdown(1)
    assert b"".join(data for _, data in stream.frames()) == b"5\nend\n"
    stream.close()


def test_stdin_once_ends_the_input(engine: Engine, name: str) -> None:
    done = engine.docker(
        "run", "-i", "--name", name, "busybox", "sh", "-c", "wc -c; sleep 0.2; echo end", stdin="12345"
    )
    assert done.stdout.split() == ["5", "end"]


def test_attach_upgrade_heads(engine: Engine, name: str) -> None:
    engine.docker(
        "run", "-d", "--name", name, "busybox", "sh", "-c", "while :; do echo tick; sleep 0.1; done"
    )
    stream = Stream(engine.socket, "POST", f"/containers/{name}/attach?stream=1&stdout=1", upgrade=True)
    assert stream.status == 101
    assert stream.headers["upgrade"] == "tcp"
    assert stream.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    lines = stream.lines()
    assert [next(lines) for _ in range(3)] == ["tick"] * 3
    stream.close()
    plain = Stream(engine.socket, "POST", f"/containers/{name}/attach?stream=1&stdout=1")
    assert plain.status == 200
    plain.close()


def test_attach_with_logs_replays(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "echo early; sleep 300")
    wait_until(lambda: engine.docker("logs", name).stdout == "early\n", "the line is logged")
    stream = Stream(
        engine.socket, "POST", f"/containers/{name}/attach?logs=1&stream=1&stdout=1", upgrade=True
    )
    assert next(stream.lines()) == "early"
    stream.close()
