"""The runc-compatible command line, run as other engines run it."""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pexpect
import pytest

from services.protocol import oci
from tests.harness.readiness import wait_until
from tests.integration.runtime.conftest import PARENT, default_spec

MODULE = [sys.executable, "-m", "services.containerd_shim.runtime.cli"]
Done = subprocess.CompletedProcess[str]


class Runtime:
    """The command with a state directory and a bundle of its own."""

    def __init__(self, layer: Path, directory: Path) -> None:
        self.root = directory / "state"
        self.bundle = directory
        self.id = f"c{uuid.uuid4().hex[:10]}"
        self.spec = default_spec(f"/{PARENT}/{self.id}")
        (self.bundle / "rootfs").mkdir()
        subprocess.run(["cp", "-a", f"{layer}/.", str(self.bundle / "rootfs")], check=True)

    def write(self, *args: str, terminal: bool = False) -> None:
        assert self.spec.process is not None
        self.spec.process.args = list(args)
        self.spec.process.terminal = terminal
        (self.bundle / "config.json").write_bytes(msgspec.json.encode(self.spec))

    def command(self, *args: str) -> list[str]:
        return [*MODULE, "--root", str(self.root), *args]

    def __call__(self, *args: str, **options: object) -> Done:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            self.command(*args), capture_output=True, text=True, timeout=90, **options
        )

    def create(self, *flags: str) -> Done:
        """Output goes to files: the container inherits them and outlives the command."""
        return self.detached("create", "-b", str(self.bundle), *flags, self.id)

    def detached(self, *arguments: str) -> Done:
        with open(self.bundle / "out", "ab") as out, open(self.bundle / "err", "w+") as err:
            done = subprocess.run(
                self.command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                text=True,
                timeout=90,
            )
            err.seek(0)
            done.stderr = err.read()
        return done

    def status(self) -> str:
        return str(json.loads(self("state", self.id).stdout)["status"])

    def until(self, status: str) -> None:
        wait_until(lambda: self.status() == status, f"it is {status}")

    @property
    def output(self) -> str:
        return (self.bundle / "out").read_text()


@pytest.fixture
def runtime(layer: Path, tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(layer, tmp_path)
    yield made
    made("delete", "--force", made.id)


def test_create_start_delete(runtime: Runtime) -> None:
    runtime.write("sh", "-c", "echo started; sleep 300")
    pid_file = runtime.bundle / "pid"
    assert runtime.create("--pid-file", str(pid_file)).returncode == 0
    state = json.loads(runtime("state", runtime.id).stdout)
    assert state["status"] == "created" and state["bundle"] == str(runtime.bundle)
    assert int(pid_file.read_text()) == state["pid"]
    assert runtime.output == ""
    assert runtime("start", runtime.id).returncode == 0
    assert runtime.status() == "running"
    wait_until(lambda: runtime.output == "started\n", "the program has run")
    refused = runtime("start", runtime.id)
    assert refused.returncode == 1 and "already running" in refused.stderr
    assert "not stopped: running" in runtime("delete", runtime.id).stderr
    assert json.loads(runtime("list", "-f", "json").stdout)[0]["id"] == runtime.id
    assert runtime("list", "-q").stdout == f"{runtime.id}\n"
    assert runtime("kill", runtime.id, "KILL").returncode == 0
    runtime.until("stopped")
    assert "container not running" in runtime("kill", runtime.id).stderr
    assert runtime("delete", runtime.id).returncode == 0
    assert "does not exist" in runtime("state", runtime.id).stderr
    assert not list(Path("/sys/fs/cgroup").glob(f"*/*/{runtime.id}"))
    assert list(runtime.root.iterdir()) == []


def test_run_in_the_foreground(runtime: Runtime) -> None:
    runtime.write("sh", "-c", "cat; echo err >&2; exit 9")
    done = runtime("run", "-b", str(runtime.bundle), runtime.id, input="from stdin\n")
    assert (done.returncode, done.stdout, done.stderr) == (9, "from stdin\n", "err\n")
    assert "does not exist" in runtime("state", runtime.id).stderr


def test_run_forwards_signals(runtime: Runtime) -> None:
    runtime.write("sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    command = runtime.command("run", "-b", str(runtime.bundle), runtime.id)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 5


def test_run_with_a_terminal(runtime: Runtime) -> None:
    runtime.write("sh", "-c", "tty; stty size; read line; echo got $line; exit 4", terminal=True)
    command = runtime.command("run", "-b", str(runtime.bundle), runtime.id)
    child = pexpect.spawn(command[0], command[1:], timeout=90, dimensions=(33, 77))
    child.expect("/dev/pts/0\r\n33 77\r\n")
    child.sendline("hello")
    child.expect("got hello\r\n")
    child.expect(pexpect.EOF)
    child.wait()
    child.close()
    assert child.exitstatus == 4


def test_console_socket(runtime: Runtime) -> None:
    runtime.write("sh", "-c", "tty; sleep 300", terminal=True)
    assert "without setting console socket" in runtime.create().stderr
    path = str(runtime.bundle / "console.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)
        assert runtime.create("--console-socket", path).stderr == ""
        connection, _ = listener.accept()
        with connection:
            _data, ancillary, _flags, _address = connection.recvmsg(64, socket.CMSG_SPACE(4))
    master = array.array("i", ancillary[0][2])[0]
    try:
        assert runtime("start", runtime.id).returncode == 0
        shown = b""
        while not shown.endswith(b"\n"):  # a terminal may give a line in pieces
            assert select.select([master], [], [], 90)[0]
            shown += os.read(master, 64)
        assert shown == b"/dev/pts/0\r\n"
    finally:
        os.close(master)


def test_exec(runtime: Runtime) -> None:
    runtime.write("sleep", "300")
    runtime.create()
    runtime("start", runtime.id)
    done = runtime(
        "exec",
        "-e",
        "A=b",
        "--cwd",
        "/tmp",
        "-u",
        "1000:1001",
        runtime.id,
        "sh",
        "-c",
        "id; pwd; echo $A; exit 3",
    )
    assert done.returncode == 3
    assert done.stdout.splitlines() == ["uid=1000(joe) gid=1001(joe)", "/tmp", "b"]
    missing = runtime("exec", runtime.id, "nosuch")
    assert missing.returncode == 255
    assert missing.stderr == (
        "wharfd-runtime: exec failed: unable to start container process: "
        'exec: "nosuch": executable file not found in $PATH\n'
    )
    assert runtime.detached("exec", "-d", runtime.id, "sleep", "301").returncode == 0
    assert len(json.loads(runtime("ps", "-f", "json", runtime.id).stdout)) == 2
    assert "sleep 301" in runtime("ps", runtime.id).stdout


def test_pause_update_events(runtime: Runtime) -> None:
    runtime.write("sleep", "300")
    runtime.create()
    runtime("start", runtime.id)
    assert runtime("pause", runtime.id).returncode == 0
    assert runtime.status() == "paused"
    assert "paused container" in runtime("exec", runtime.id, "true").stderr
    assert runtime("resume", runtime.id).returncode == 0
    assert "not paused" in runtime("resume", runtime.id).stderr
    assert runtime("update", "--memory", "64m", "--pids-limit", "20", runtime.id).stderr == ""
    event = json.loads(runtime("events", "--stats", runtime.id).stdout)
    assert event["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert event["data"]["pids"] == {"current": 1, "limit": 20}
    assert runtime("pause", runtime.id).returncode == 0
    assert runtime("delete", "--force", runtime.id).returncode == 0


def test_failed_create_leaves_nothing(runtime: Runtime) -> None:
    runtime.write("nosuch")
    log = runtime.bundle / "log.json"
    arguments = ["--log", str(log), "--log-format", "json", "create", "-b", str(runtime.bundle), runtime.id]
    assert runtime(*arguments).returncode == 1
    record = json.loads(log.read_text())
    assert record["level"] == "error"
    assert record["msg"] == (
        "runc create failed: unable to start container process: error during container init: "
        'exec: "nosuch": executable file not found in $PATH'
    )
    assert list(runtime.root.iterdir()) == []
    assert not list(Path("/sys/fs/cgroup").glob(f"*/*/{runtime.id}"))


def test_ids_are_taken_once_and_checked(runtime: Runtime) -> None:
    runtime.write("sleep", "300")
    runtime.create()
    assert "already exists" in runtime.create().stderr
    assert "invalid container ID" in runtime("state", "../x").stderr


@pytest.mark.parametrize("flag", [["--systemd-cgroup"], ["--rootless", "true"]])
def test_what_is_not_there_is_refused_by_name(runtime: Runtime, flag: list[str]) -> None:
    refused = runtime(*flag, "list")
    assert refused.returncode == 1 and f"{flag[0]}" in refused.stderr


def test_spec_can_be_run(runtime: Runtime, tmp_path: Path) -> None:
    assert runtime("spec", "-b", str(runtime.bundle)).returncode == 0
    assert "exists" in runtime("spec", "-b", str(runtime.bundle)).stderr
    spec = msgspec.json.decode((runtime.bundle / "config.json").read_bytes(), type=oci.Spec)
    assert spec.process is not None and spec.linux is not None
    spec.process.terminal = False
    spec.process.args = ["/bin/sh", "-c", "hostname; cat /proc/self/cgroup | grep pids; ls /sys/fs/cgroup"]
    spec.process.env = ["PATH=/bin"]
    spec.linux.cgroups_path = f"/{PARENT}/{runtime.id}"
    (runtime.bundle / "config.json").write_bytes(msgspec.json.encode(spec))
    done = runtime("run", "-b", str(runtime.bundle), runtime.id)
    # The cgroup namespace makes the container's cgroup the root.
    assert done.stdout.splitlines()[0] == "runc"
    assert done.stdout.splitlines()[1].endswith(":pids:/")
    assert len(done.stdout.splitlines()) > 3


def test_features(runtime: Runtime) -> None:
    features = json.loads(runtime("features").stdout)
    assert features["linux"]["cgroup"] == {
        "v1": True,
        "v2": True,
        "systemd": False,
        "systemdUser": False,
        "rdma": False,
    }
    assert "SCMP_ACT_ERRNO" in features["linux"]["seccomp"]["actions"]
    assert {"rbind", "rro", "tmpcopyup"} <= set(features["mountOptions"])


def test_preserved_descriptors(runtime: Runtime) -> None:
    runtime.write("sh", "-c", "cat <&3; ls /proc/self/fd | tr '\\n' ' '")
    read, write = os.pipe()
    os.write(write, b"passed\n")
    os.close(write)
    command = runtime.command("run", "-b", str(runtime.bundle), "--preserve-fds", "1", runtime.id)
    script = f"exec {' '.join(command)} 3<&{read}"
    done = subprocess.run(
        ["bash", "-c", script], pass_fds=[read], capture_output=True, text=True, timeout=120
    )
    os.close(read)
    assert done.stdout == "passed\n0 1 2 3 4 ", done.stderr
