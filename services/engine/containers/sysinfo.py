"""What the host's cgroups and kernel can limit; read once (moby ``pkg/sysinfo``)."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
#: A number or a range of them, as cpusets list them.
_RANGE = re.compile(r"\+?([0-9]{1,18})(?:-\+?([0-9]{1,18}))?")
#: The most CPUs a kernel is built for.
_MAXIMUM_IN_SET = 8192


@dataclass(frozen=True)
class SysInfo:
    """``cpus`` and ``memory_nodes`` are lists in cpuset's form (``0-3,7``)."""

    unified: bool
    memory: bool
    swap: bool
    memory_reservation: bool
    swappiness: bool
    oom_kill_disable: bool
    cpu_shares: bool
    cpu_cfs: bool
    cpu_realtime: bool
    cpuset: bool
    pids: bool
    blkio_weight: bool
    blkio_weight_device: bool
    blkio_throttle: bool
    cpus: str
    memory_nodes: str
    cpu_count: int


@functools.cache
def sysinfo() -> SysInfo:
    """The running host's."""
    return _unified() if (_CGROUP / "cgroup.controllers").exists() else _legacy()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def cpu_count() -> int:
    return len(os.sched_getaffinity(0))


def _legacy() -> SysInfo:
    """cgroup v1, also hybrid: what there is a file for."""

    def has(controller: str, file: str) -> bool:
        return (_CGROUP / controller / file).exists()

    return SysInfo(
        unified=False,
        memory=has("memory", "memory.limit_in_bytes"),
        swap=has("memory", "memory.memsw.limit_in_bytes"),
        memory_reservation=has("memory", "memory.soft_limit_in_bytes"),
        swappiness=has("memory", "memory.swappiness"),
        oom_kill_disable=has("memory", "memory.oom_control"),
        cpu_shares=has("cpu", "cpu.shares"),
        cpu_cfs=has("cpu", "cpu.cfs_quota_us"),
        cpu_realtime=has("cpu", "cpu.rt_period_us"),
        cpuset=has("cpuset", "cpuset.cpus"),
        pids=(_CGROUP / "pids").is_dir(),
        blkio_weight=has("blkio", "blkio.weight"),
        blkio_weight_device=has("blkio", "blkio.weight_device"),
        blkio_throttle=has("blkio", "blkio.throttle.read_bps_device"),
        cpus=_read(_CGROUP / "cpuset/cpuset.cpus"),
        memory_nodes=_read(_CGROUP / "cpuset/cpuset.mems"),
        cpu_count=cpu_count(),
    )


def _unified() -> SysInfo:
    controllers = set(_read(_CGROUP / "cgroup.controllers").split())
    return SysInfo(
        unified=True,
        memory="memory" in controllers,
        swap="memory" in controllers,
        memory_reservation="memory" in controllers,
        swappiness=False,
        oom_kill_disable=False,
        cpu_shares="cpu" in controllers,
        cpu_cfs="cpu" in controllers,
        cpu_realtime=False,
        cpuset="cpuset" in controllers,
        pids="pids" in controllers,
        blkio_weight="io" in controllers,
        blkio_weight_device="io" in controllers,
        blkio_throttle="io" in controllers,
        cpus=_read(_CGROUP / "cpuset.cpus.effective"),
        memory_nodes=_read(_CGROUP / "cpuset.mems.effective"),
        cpu_count=cpu_count(),
    )


def parse_set(text: str) -> set[int]:
    """``0-2,5`` as numbers; raises ``ValueError`` (``invalid format: a-b``)."""
    result: set[int] = set()
    for part in text.split(",") if text else ():
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(f"invalid format: {text}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"invalid format: {text}")
        if last > _MAXIMUM_IN_SET:
            raise ValueError(f"value of out range, maximum is {_MAXIMUM_IN_SET}")
        result.update(range(first, last + 1))
    return result
