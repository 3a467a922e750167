"""What a created container is configured with reaches the kernel: limits, mounts, links, measures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

from tests.harness.engine import Engine


def run(engine: Engine, command: str, **options: Any) -> str:
    output: bytes = engine.client.containers.run("busybox", ["sh", "-c", command], remove=True, **options)
    return output.decode()


def limit(name_v1: str, name_v2: str) -> str:
    return f"cat /sys/fs/cgroup/{name_v1} 2>/dev/null || cat /sys/fs/cgroup/{name_v2}"


def test_limits(engine: Engine) -> None:
    memory = limit("memory/memory.limit_in_bytes", "memory.max")
    assert run(engine, memory, mem_limit="64m") == f"{64 << 20}\n"
    assert run(engine, limit("pids/pids.max", "pids.max"), pids_limit=20) == "20\n"
    quota = run(engine, limit("cpu/cpu.cfs_quota_us", "cpu.max"), nano_cpus=500_000_000)
    assert quota.split()[0] == "50000"
    ulimits = [docker.types.Ulimit(name="nofile", soft=100, hard=200)]
    assert run(engine, "ulimit -Sn; ulimit -Hn", ulimits=ulimits) == "100\n200\n"


def test_limits_of_a_running_container_are_updated(engine: Engine) -> None:
    container = engine.client.containers.run("busybox", ["sleep", "300"], detach=True)
    try:
        container.update(mem_limit="64m", memswap_limit="128m", cpu_shares=512)
        memory = limit("memory/memory.limit_in_bytes", "memory.max")
        assert container.exec_run(["sh", "-c", memory]).output == b"67108864\n"
        container.reload()
        assert container.attrs["HostConfig"]["CpuShares"] == 512
        with pytest.raises(docker.errors.APIError, match="Memory limit should be smaller than already set"):
            container.update(mem_limit="256m")
    finally:
        container.remove(force=True)


def test_devices(engine: Engine) -> None:
    command = "stat -c %t:%T /dev/mine; mknod /tmp/k c 10 237; (: < /tmp/k) 2>/dev/null || echo refused"
    assert run(engine, command, devices=["/dev/null:/dev/mine:rwm"]) == "1:3\nrefused\n"


def test_a_volume_takes_the_images_content_once(engine: Engine) -> None:
    volume = engine.client.volumes.create("wh-configuration")
    try:
        mounts = {"wh-configuration": {"bind": "/etc", "mode": "rw"}}
        assert "root:" in run(engine, "cat /etc/passwd; rm /etc/passwd", volumes=mounts)
        assert run(engine, "ls /etc/passwd 2>/dev/null || echo gone", volumes=mounts) == "gone\n"
    finally:
        volume.remove()


def test_bind_mounts(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host\n")
    volumes = {str(tmp_path): {"bind": "/m", "mode": "ro"}}
    assert run(engine, "cat /m/f; touch /m/g 2>/dev/null || echo read-only", volumes=volumes) == (
        "host\nread-only\n"
    )
    with pytest.raises(docker.errors.APIError, match="bind source path does not exist"):
        mount = docker.types.Mount("/m", str(tmp_path / "missing"), type="bind")
        run(engine, "true", mounts=[mount])
    assert not (tmp_path / "missing").exists()


def test_tmpfs_and_read_only_root(engine: Engine) -> None:
    command = "touch /x 2>/dev/null || echo read-only; touch /t/x && stat -c %a /t"
    assert run(engine, command, read_only=True, tmpfs={"/t": "size=1m,mode=700"}) == "read-only\n700\n"


def test_the_working_directory_is_made_at_create(engine: Engine) -> None:
    container = engine.client.containers.create("busybox", ["pwd"], working_dir="/new/dir")
    try:
        changed = {item["Path"] for item in engine.client.api.diff(container.id)}
        assert {"/new", "/new/dir"} <= changed
    finally:
        container.remove()
    with pytest.raises(docker.errors.APIError, match="Cannot mkdir: /etc/passwd is not a directory"):
        engine.client.containers.create("busybox", working_dir="/etc/passwd")


def test_shared_memory(engine: Engine) -> None:
    command = ["sh", "-c", "echo data > /dev/shm/f; sleep 300"]
    donor = engine.client.containers.run("busybox", command, detach=True, ipc_mode="shareable")
    try:
        deadline = time.monotonic() + 90
        while donor.exec_run(["test", "-s", "/dev/shm/f"]).exit_code and time.monotonic() < deadline:
            time.sleep(0.05)
        assert run(engine, "cat /dev/shm/f", ipc_mode=f"container:{donor.id}") == "data\n"
    finally:
        donor.remove(force=True)


def test_links(engine: Engine) -> None:
    other = engine.client.containers.run("busybox", ["sleep", "300"], detach=True, name="wh-db")
    try:
        address = engine.client.api.inspect_container("wh-db")["NetworkSettings"]["Networks"]["bridge"]
        output = run(engine, "grep store /etc/hosts", links={"wh-db": "store"})
        assert output.split()[:2] == [address["IPAddress"], "store"]
    finally:
        other.remove(force=True)


def test_top_and_stats(engine: Engine) -> None:
    container = engine.client.containers.run("busybox", ["sleep", "300"], detach=True)
    try:
        top = container.top()
        assert [row[-1] for row in top["Processes"]] == ["sleep 300"]
        stats = container.stats(stream=False)
        assert stats["pids_stats"]["current"] == 1
        assert stats["memory_stats"]["usage"] > 0
        assert stats["cpu_stats"]["system_cpu_usage"] > stats["precpu_stats"]["system_cpu_usage"] > 0
        assert set(stats["networks"]) == {"eth0"}
    finally:
        container.remove(force=True)


def test_many_containers_are_listed_quickly(engine: Engine) -> None:
    api = engine.client.api
    made = [api.create_container("busybox", ["true"])["Id"] for _ in range(100)]
    try:
        started = _cpu_seconds(engine)
        for _ in range(10):
            assert len(api.containers(all=True)) >= 100
        assert (_cpu_seconds(engine) - started) / 10 < 0.5
    finally:
        for container_id in made:
            api.remove_container(container_id)


def _cpu_seconds(engine: Engine) -> float:
    """What the services have worked, however long they had to wait for a processor."""
    services = [psutil.Process(pid) for pid in engine.service_pids().values()]
    workers = [child for service in services for child in service.children()]
    times = [process.cpu_times() for process in services + workers]
    return sum(one.user + one.system for one in times)
