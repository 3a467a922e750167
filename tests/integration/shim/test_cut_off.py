"""Forks that are cut off by the death of the zygote, of a shim or of its maker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from services.containerd_shim import state
from services.containerd_shim.reclaim import reclaim
from services.containerd_shim.runtime import cgroups
from services.containerd_shim.zygote_client import ZygoteClient
from services.protocol import fdpass
from services.protocol import task_pb2 as pb
from services.protocol.errors import Unavailable
from services.protocol.shim import Subscribe, TaskCall
from tests.harness.shims import Service, spec, wait_for


def _directories(cgroup: str) -> list[Path]:
    root = Path("/sys/fs/cgroup")
    return [*root.glob(f"*/wharfd/{cgroup}"), *root.glob(f"wharfd/{cgroup}")]


def _child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return int(wait_for(lambda: children.read_text().split())[0])


def test_a_killed_maker_leaves_no_cgroup(service: Service, name: str) -> None:
    service.prepare(name)
    cgroup = service.cgroup(name)
    cgroups.manager(f"/wharfd/{cgroup}", name).create()  # as far as the maker may have come
    assert _directories(cgroup)
    shim = service.call("State", pb.StateRequest(id=name)).shim_pid
    os.kill(_child(shim), signal.SIGKILL)
    with pytest.raises(Unavailable, match="the process that makes the container was killed"):
        service.create(name, "/bin/sh", "-c", "exit 3")
    assert not _directories(cgroup)
    service.create(name, "/bin/sh", "-c", "exit 3")
    service.start_task(name)
    assert service.wait(name) == 3
    service.delete(name)
    assert not _directories(cgroup)


def test_a_shim_killed_before_it_recorded_its_container_leaves_no_cgroup(tmp_path: Path, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("cgroups need root")
    name = f"{tmp_path.name}-{name}"
    document = spec(name, ["true"])

    (tmp_path / "config.json").write_text(json.dumps(document))
    state.save(str(tmp_path), state.ShimRecord(id=name, shim_pid=1 << 30, shim_start=1))
    cgroups.manager(f"/wharfd/{name}", name).create()
    assert _directories(name)
    reclaim(tmp_path)
    assert not _directories(name)
    record = state.load(tmp_path)
    assert record is not None and record.lost


def test_a_fork_that_is_repeated_makes_no_second_shim(own_service: Service, name: str) -> None:
    """The zygote may die between the fork and its answer: the next one is asked for the same shim."""
    exec_root = own_service.exec_root
    own_service.stop()
    own_service.process = None
    directory = exec_root.shim_dir(name)
    directory.mkdir(parents=True)
    request = pb.StartShimRequest(id=name).SerializeToString()

    async def fork_twice(listener: object) -> tuple[int, int]:
        zygote = ZygoteClient(exec_root)
        zygote.start()
        try:
            first = await zygote.fork_shim(directory, request, listener)  # type: ignore[arg-type]
            await asyncio.to_thread(wait_for, (directory / state.STATE_FILE).exists)
            second = await zygote.fork_shim(directory, request, listener)  # type: ignore[arg-type]
            await asyncio.to_thread(wait_for, lambda: not _runs(second))
            return first, second
        finally:
            zygote.close()

    with fdpass.listen(exec_root.shim_socket(name)) as listener:
        first, _ = asyncio.run(fork_twice(listener))
    record = state.load(directory)
    assert record is not None and record.shim_pid == first
    with fdpass.connect(exec_root.shim_socket(name)) as connection:
        fdpass.send(connection, Subscribe())
        fdpass.send(connection, TaskCall(1, "Delete", pb.DeleteRequest(id=name).SerializeToString()))
        wait_for(lambda: not directory.exists())
    wait_for(lambda: not _runs(first))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
