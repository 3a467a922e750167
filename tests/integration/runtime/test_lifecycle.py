"""Creating, starting, executing, signalling, limiting, removing."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import pytest

from services.containerd_shim.runtime.container import Container, Stdio
from services.protocol import metrics, oci
from services.protocol import task_pb2 as pb
from services.protocol.errors import WharfError
from tests.integration.runtime.conftest import Box


def wait_until(condition: object, seconds: float = 90) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def read_terminal(master: int) -> str:
    data = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            return data.decode()
        if not piece:
            return data.decode()
        data += piece


@pytest.mark.parametrize("code", [0, 7, 255])
def test_exit_codes(box: Box, code: int) -> None:
    assert box.sh(f"exit {code}").code == code


def test_program_waits_for_start(box: Box) -> None:
    container = box.create("sh", "-c", "echo ran")
    time.sleep(0.1)
    assert box.output == ""
    container.start(None)
    assert box.wait() == 0
    assert box.output == "ran\n"


def test_waiting_init_ends_with_its_parent(box: Box) -> None:
    container = box.create("sleep", "60")
    assert container._sock is not None
    container._sock.close()
    container._sock = None
    assert box.wait() == 1


def test_signals(box: Box) -> None:
    container = box.start("sh", "-c", "trap 'exit 11' USR1; echo ready; while :; do sleep 0.05; done")
    wait_until(lambda: "ready" in box.output)
    container.kill(signal.SIGUSR1)
    assert box.wait() == 11
    with pytest.raises(WharfError, match="container not running"):
        container.kill(signal.SIGTERM)


def test_kill_all_and_pids(box: Box) -> None:
    box.linux.namespaces = [space for space in box.linux.namespaces if space.type != "pid"]
    container = box.start("sh", "-c", "sleep 61 & sleep 62 & wait")
    wait_until(lambda: len(container.pids()) == 3)
    container.kill(signal.SIGKILL, all=True)
    assert box.wait() == -signal.SIGKILL
    wait_until(lambda: container.pids() == [])


def test_destroy_ends_everything(box: Box) -> None:
    container = box.start("sh", "-c", "sleep 61 & sleep 62 & wait")
    wait_until(lambda: len(container.pids()) == 3)
    box.close()
    container.destroy()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/*/{box.id}"))


def test_loaded_container_is_the_same(box: Box) -> None:
    container = box.start("sleep", "60")
    loaded = Container.load(container.save(), box.spec)
    assert loaded.alive() and loaded.pids() == container.pids()
    loaded.destroy()
    assert box.wait() == -signal.SIGKILL
    assert not loaded.alive()


def test_exec(box: Box) -> None:
    box.start("sleep", "60")
    result = box.exec("sh", "-c", "echo $$ $PPID; hostname; cat /proc/1/cmdline | tr '\\0' ' '; exit 3")
    pid, parent = result.out.splitlines()[0].split()
    assert int(pid) > 1 and parent == "0"
    assert result.out.splitlines()[1:] == ["box", "sleep 60 "]
    assert result.code == 3
    assert box.exec("sh", "-c", "id -u; echo $HOME", user="joe").out == "1000\n/home/joe\n"


def test_exec_is_confined_like_init(box: Box) -> None:
    container = box.start("sleep", "60")
    process = oci.Process(
        args=["sh", "-c", "grep -E '^(CapEff|Seccomp):' /proc/self/status; cat /proc/self/cgroup; pwd"],
        env=["PATH=/bin"],
        cwd="/tmp",
        capabilities=box.process.capabilities,
    )
    out = box.exec(process=process).out
    assert "CapEff:\t00000000a80425fb" in out
    assert "Seccomp:\t2" in out
    assert f"/{box.id}\n" in out
    assert out.endswith("/tmp\n")
    assert len(container.pids()) == 1


def test_exec_in_a_stopped_container(box: Box) -> None:
    box.start("true")
    box.wait()
    with pytest.raises(WharfError, match="stopped container"):
        box.exec("true")


def test_terminal(box: Box) -> None:
    box.process.terminal = True
    box.process.console_size = oci.Box(height=31, width=97)
    box.start("sh", "-c", "tty; stty size; ls -l /dev/console | cut -c1-10; echo err >&2")
    assert box.started is not None and box.started.console is not None
    assert read_terminal(box.started.console) == "/dev/pts/0\r\n31 97\r\ncrw--w----\r\nerr\r\n"


def test_exec_terminal(box: Box) -> None:
    container = box.start("sleep", "60")
    process = oci.Process(args=["sh", "-c", "tty; stty size"], env=["PATH=/bin"], cwd="/", terminal=True)
    started = container.exec(process, None, console_size=(10, 20))
    assert started.console is not None
    assert read_terminal(started.console) == "/dev/pts/0\r\n10 20\r\n"
    os.close(started.console)
    os.close(started.pidfd)
    os.waitpid(started.pid, 0)


def test_hostile_ptmx_is_noticed(box: Box) -> None:
    container = box.start("sleep", "60")
    # Without capabilities in its document an exec has all of them.
    assert box.exec("sh", "-c", "umount /dev/pts && mknod -m 666 /dev/pts/ptmx c 1 3").out == ""
    process = oci.Process(args=["true"], env=["PATH=/bin"], cwd="/", terminal=True)
    with pytest.raises(WharfError, match="not the pseudo-terminal multiplexer"):
        container.exec(process, None)


def test_stdio_can_be_reopened_by_the_user(box: Box) -> None:
    read, write = os.pipe()
    box.process.args = ["sh", "-c", "echo hi > /dev/stdout"]
    container = Container(box.id, box.bundle, box.spec)
    box.container = container
    box.started = container.create(Stdio(write, write, write), rootfs=box.rootfs, user=pb.UserRef(user="joe"))
    os.close(write)
    container.start(None)
    with os.fdopen(read) as file:
        assert file.read() == "hi\n"


def test_limits_are_set_and_counted(box: Box) -> None:
    resources = box.linux.resources
    assert resources is not None
    resources.memory = oci.Memory(limit=64 << 20, swap=128 << 20, reservation=32 << 20)
    resources.cpu = oci.Cpu(shares=512, quota=20000, period=50000, cpus="0")
    resources.pids = oci.Pids(limit=33)
    container = box.start("sleep", "60")
    counted = metrics.decode(container.stats())
    assert counted.memory.limit == 64 << 20
    assert 0 < counted.memory.usage < 64 << 20
    assert (counted.pids.current, counted.pids.limit) == (1, 33)
    assert counted.cpu.total > 0
    if counted.cgroup_version == 1:
        root = Path("/sys/fs/cgroup")
        values = {
            "cpu/{}/cpu.shares": "512",
            "cpu/{}/cpu.cfs_quota_us": "20000",
            "cpu/{}/cpu.cfs_period_us": "50000",
            "cpuset/{}/cpuset.cpus": "0",
            "memory/{}/memory.memsw.limit_in_bytes": str(128 << 20),
            "memory/{}/memory.soft_limit_in_bytes": str(32 << 20),
        }
        for name, value in values.items():
            assert (root / name.format(box.linux.cgroups_path.lstrip("/"))).read_text().strip() == value
    container.update(oci.Resources(memory=oci.Memory(limit=256 << 20, swap=-1), pids=oci.Pids(limit=0)))
    counted = metrics.decode(container.stats())
    assert counted.memory.limit == 256 << 20
    assert counted.pids.limit == metrics.UNLIMITED


def test_out_of_memory_is_seen(box: Box) -> None:
    assert box.linux.resources is not None
    box.linux.resources.memory = oci.Memory(limit=16 << 20, swap=16 << 20)
    container = box.create("sh", "-c", "tail -c 200m /dev/zero")
    event = container.oom_event_fd()  # before it can happen
    assert event is not None
    try:
        container.start(None)
        assert select.select([event], [], [], 90)[0] == [event]
    finally:
        os.close(event)
    code = box.wait()
    assert code in (137, -signal.SIGKILL)
    assert container.oom_kills() >= 1


def test_pause_and_resume(box: Box) -> None:
    container = box.start("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")
    wait_until(lambda: box.output.count("\n") > 3)
    container.pause()
    before = box.output
    time.sleep(0.2)
    assert box.output == before
    with pytest.raises(WharfError, match="paused container"):
        box.exec("true")
    container.resume()
    wait_until(lambda: len(box.output) > len(before))


def test_network_is_configured_inside(box: Box) -> None:
    box.linux.sysctl = {"net.ipv4.conf.lo.rp_filter": "2"}
    setup = pb.NetworkSetup(
        interfaces=[pb.NetworkInterface(name="lo", addresses=["10.99.0.2/24", "fd00:99::2/64"], mtu=1400)],
        routes=[
            pb.NetworkRoute(destination="10.98.0.0/16", interface="lo"),
            pb.NetworkRoute(destination="default", gateway="10.99.0.1"),
        ],
    )
    box.start(
        "sh", "-c", "ip addr show lo; ip route; cat /proc/sys/net/ipv4/conf/lo/rp_filter", network=setup
    )
    assert box.wait() == 0
    assert "mtu 1400" in box.output
    assert "inet 10.99.0.2/24" in box.output and "inet6 fd00:99::2/64" in box.output
    assert "default via 10.99.0.1 dev lo" in box.output and "10.98.0.0/16 dev lo" in box.output
    assert box.output.endswith("2\n")


def test_network_that_cannot_be_configured_fails_start(box: Box) -> None:
    container = box.create("true")
    setup = pb.NetworkSetup(interfaces=[pb.NetworkInterface(name="nosuch0")])
    with pytest.raises(WharfError, match="nosuch0"):
        container.start(setup)


def test_hooks(box: Box, tmp_path: Path) -> None:
    log = tmp_path / "hooks"
    script = tmp_path / "hook.sh"
    script.write_text(f"#!/bin/sh\necho $1 $(cat) >> {log}\n")
    script.chmod(0o755)
    (box.bundle / "upper/log").touch()
    inside = oci.Hook(path="/bin/sh", args=["sh", "-c", "echo startContainer >> /log"], env=["PATH=/bin"])

    def hook(kind: str) -> list[oci.Hook]:
        return [oci.Hook(path=str(script), args=["hook", kind], env=["PATH=/bin:/usr/bin"])]

    box.spec.hooks = oci.Hooks(
        prestart=hook("prestart"),
        create_runtime=hook("createRuntime"),
        start_container=[inside],
        poststart=hook("poststart"),
        poststop=hook("poststop"),
    )
    assert box.run("cat", "/log").out == "startContainer\n"
    lines = log.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["prestart", "createRuntime", "poststart", "poststop"]
    assert f'"id":"{box.id}"' in lines[0] and '"status":"creating"' in lines[0]


def test_failing_hook_stops_create(box: Box) -> None:
    box.spec.hooks = oci.Hooks(create_runtime=[oci.Hook(path="/bin/false", args=["false"])])
    with pytest.raises(WharfError, match="error running createRuntime hook #0"):
        box.create("true")


def test_hook_past_its_timeout(box: Box) -> None:
    slow = oci.Hook(path="/bin/sleep", args=["sleep", "30"], timeout=1)
    box.spec.hooks = oci.Hooks(prestart=[slow])
    started = time.monotonic()
    with pytest.raises(WharfError, match="past its timeout"):
        box.create("true")
    assert time.monotonic() - started < 25


@pytest.mark.parametrize("name", ["l", "l" * 100])
def test_long_overlay_options(box: Box, layer: Path, name: str) -> None:
    """More lower directories than fit into a page of mount options, also when made relative."""
    parent = box.bundle / name
    parent.mkdir()
    names = []
    for number in range(80):
        directory = parent / f"layer-{number}"
        directory.mkdir()
        names.append(str(directory))
    (parent / "layer-79/deepest").write_text("found\n")
    lower = ":".join([*names, str(layer)])
    assert len(lower) > 4096
    box.rootfs[0].options[0] = f"lowerdir={lower}"
    assert box.run("cat", "/deepest").out == "found\n"
