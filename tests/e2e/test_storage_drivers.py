"""Daemons on file systems of their own, one for each graph driver: images, containers, a killed engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reexec import btrfs
from reexec.archive import fuse
from tests.harness.engine import Engine
from tests.harness.loops import loop_mounted
from tests.harness.readiness import wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.usefixtures("docker_command"),
]


@pytest.fixture(scope="module")
def btrfs_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with loop_mounted(tmp_path_factory.mktemp("btrfs"), "btrfs", 1 << 30) as mounted:
        least = ("--storage-opt", "btrfs.min_space=10m")
        yield from _engine(mounted / "d", "--storage-driver", "btrfs", *least)


@pytest.fixture(scope="module")
def fuse_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if reason := fuse.missing():
        pytest.skip(reason)
    yield from _engine(tmp_path_factory.mktemp("fuse") / "d", "--storage-driver", "fuse-overlayfs")


@pytest.fixture(scope="module")
def xfs_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with loop_mounted(tmp_path_factory.mktemp("xfs"), "xfs", 1 << 30) as mounted:
        yield from _engine(mounted / "d")


def _engine(data_root: Path, *flags: str) -> Iterator[Engine]:
    engine = Engine(*flags)
    engine.data_root = data_root
    try:
        engine.start()
        engine.load_images()
        yield engine
    finally:
        engine.close()


def _life(engine: Engine, home: Path, layers: Path) -> None:
    """Run, change, commit, run that, kill the engine, and remove everything."""
    before = set(os.listdir(layers))
    engine.docker("run", "--name", "one", "busybox", "sh", "-c", "echo hi > /new; rm /bin/vi; mkdir /d")
    assert engine.docker("diff", "one").stdout.splitlines() == ["C /bin", "D /bin/vi", "A /d", "A /new"]
    engine.docker("commit", "one", "made")
    engine.docker(
        "run",
        "-d",
        "--stop-signal=KILL",
        "--name",
        "two",
        "made",
        "sh",
        "-c",
        "cat /new; ls /bin/vi; exec sleep 300",
    )
    engine.kill("engine")
    engine.wait_ready()
    assert engine.docker("inspect", "-f", "{{.State.Running}}", "two").stdout == "true\n"
    wait_until(lambda: engine.docker("logs", "two").stdout == "hi\n", "the file is read")
    engine.docker("exec", "two", "sh", "-c", "echo more > /d/f")
    assert engine.docker("cp", "two:/d/f", "-").stdout
    driver = engine.client.info()["Driver"]
    engine.flags = ()  # it is known by the data root
    engine.restart()
    assert engine.client.info()["Driver"] == driver
    engine.docker("start", "two")
    assert engine.docker("exec", "two", "cat", "/d/f").stdout == "more\n"
    assert float(engine.docker("ps", "-as", "--format", "{{.Size}}").stdout.split("B")[0]) >= 0
    engine.docker("rm", "-f", "one", "two")
    engine.docker("rmi", "made")
    wait_until(lambda: os.listdir(home / "trash") == [], "the trash is emptied")
    init = {name for name in os.listdir(layers) if name.endswith("-init")}
    assert set(os.listdir(layers)) - init == before - init


def test_a_size_on_btrfs(btrfs_engine: Engine) -> None:
    fill = "dd if=/dev/zero of=/f bs=1M count=40 2>&1; sync"
    done = btrfs_engine.docker("run", "--rm", "--storage-opt", "size=20m", "busybox", "sh", "-c", fill)
    assert "Disk quota exceeded" in done.stdout
    for option, text in (
        ("nosuch=1", "Unknown option nosuch"),
        ("size=5m", "btrfs: storage size cannot be less than 10.49MB"),
    ):
        refused = btrfs_engine.docker("create", "--storage-opt", option, "busybox", check=False)
        assert refused.stderr == f"Error response from daemon: {text}\n"


def test_btrfs(btrfs_engine: Engine) -> None:
    info = btrfs_engine.client.info()
    assert (info["Driver"], info["DriverStatus"]) == ("btrfs", [["Btrfs", ""]])
    layers = btrfs_engine.data_root / "btrfs" / "subvolumes"
    assert all(btrfs.is_subvolume(str(layers / name)) for name in os.listdir(layers))
    _life(btrfs_engine, layers.parent, layers)


def test_overlay2_on_xfs(xfs_engine: Engine) -> None:
    info = xfs_engine.client.info()
    assert info["Driver"] == "overlay2"
    assert dict(info["DriverStatus"]) == {
        "Backing Filesystem": "xfs",
        "Supports d_type": "true",
        "Using metacopy": "false",
        "Native Overlay Diff": "true",
        "userxattr": "false",
    }
    home = xfs_engine.data_root / "overlay2"
    _life(xfs_engine, home, home)
    # Mounted without pquota.
    refused = xfs_engine.docker("create", "--storage-opt", "size=1g", "busybox", check=False)
    text = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
    assert refused.stderr == f"Error response from daemon: {text}\n"


def _servers(engine: Engine) -> int:
    """Programs that serve a root of this daemon's containers."""
    found = 0
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        program = command.partition(b"\0")[0]
        found += program.endswith(fuse.PROGRAM.encode()) and bytes(engine.data_root) in command
    return found


def test_fuse_overlayfs(fuse_engine: Engine) -> None:
    info = fuse_engine.client.info()
    assert (info["Driver"], info["DriverStatus"]) == ("fuse-overlayfs", [])
    home = fuse_engine.data_root / "fuse-overlayfs"
    _life(fuse_engine, home, home)
    wait_until(lambda: _servers(fuse_engine) == 0, "no server is left")


def test_a_served_root_outlives_every_service_and_ends_with_its_container(fuse_engine: Engine) -> None:
    fuse_engine.docker("run", "-d", "--name", "served", "busybox", "sleep", "300")
    wait_until(lambda: _servers(fuse_engine) == 1, "helpers' servers have ended")
    fuse_engine.kill("containerd-shim", "engine", "apiserver")
    fuse_engine.wait_ready()
    written = fuse_engine.docker(
        "exec", "served", "sh", "-c", "echo x > /f; mount | head -1; ps > /ps; wc -l < /ps"
    ).stdout
    assert written.startswith("fuse-overlayfs on / type fuse.fuse-overlayfs (rw,")
    # The server is no process of the container: sleep, sh, ps, and a line of titles.
    assert written.splitlines()[1] == "4"
    assert _servers(fuse_engine) == 1
    fuse_engine.docker("kill", "served")
    wait_until(lambda: _servers(fuse_engine) == 0, "the server has ended")
    failed = fuse_engine.docker("run", "--name", "failed", "busybox", "nosuch", check=False)
    assert failed.returncode == 127
    wait_until(lambda: _servers(fuse_engine) == 0, "a failed start leaves no server")
    fuse_engine.docker("rm", "served", "failed")
