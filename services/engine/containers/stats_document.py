"""Docker's stats document (Engine API, ``ContainerStatsResponse``) from two samples of counters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from services.engine.containers.times import rfc3339
from services.protocol.metrics import UNLIMITED, BlkioEntry, CpuMetrics, Metrics

#: Limits from here on are "no limit" in a cgroup file (PAGE_COUNTER_MAX is less than 2^63).
_NO_LIMIT = 1 << 62


@dataclass(frozen=True)
class Counters:
    """A sample; ``system`` is (nanoseconds of the host's CPUs, CPUs online)."""

    metrics: Metrics
    read_at: int
    system: tuple[int, int]
    networks: dict[str, dict[str, int]] | None


def document(current: Counters, previous: Counters | None) -> dict[str, Any]:
    """Without name, id and times."""
    numbers = current.metrics
    shown: dict[str, Any] = {
        "os_type": "linux",
        "read": "",
        "preread": "",
        "pids_stats": _pids(numbers),
        "blkio_stats": _blkio(numbers),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(numbers.cpu, current.system),
        "precpu_stats": _cpu(previous.metrics.cpu, previous.system) if previous else _no_cpu(),
        "memory_stats": _memory(numbers),
        "name": "",
        "id": "",
    }
    if current.networks:
        shown["networks"] = current.networks
    return shown


def empty_document(name: str, container_id: str) -> dict[str, Any]:
    """Of a container that does not run."""
    return {
        "os_type": "linux",
        "read": rfc3339(0),
        "preread": rfc3339(0),
        "pids_stats": {},
        "blkio_stats": dict.fromkeys(_BLKIO_NAMES),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _no_cpu(),
        "precpu_stats": _no_cpu(),
        "memory_stats": {},
        "name": name,
        "id": container_id,
    }


def _no_cpu() -> dict[str, Any]:
    return {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _cpu(cpu: CpuMetrics, system: tuple[int, int]) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "total_usage": cpu.total,
        "usage_in_kernelmode": cpu.kernel,
        "usage_in_usermode": cpu.user,
    }
    if cpu.per_cpu:
        usage["percpu_usage"] = cpu.per_cpu
    return {
        "cpu_usage": usage,
        "system_cpu_usage": system[0],
        "online_cpus": system[1],
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_time,
        },
    }


def _pids(numbers: Metrics) -> dict[str, int]:
    shown = {"current": numbers.pids.current}
    if numbers.pids.limit < _NO_LIMIT:
        shown["limit"] = numbers.pids.limit
    elif numbers.cgroup_version == 2:
        shown["limit"] = UNLIMITED
    return shown


def _memory(numbers: Metrics) -> dict[str, Any]:
    memory = numbers.memory
    limit = memory.limit
    if limit >= _NO_LIMIT:
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    shown: dict[str, Any] = {"usage": memory.usage, "stats": memory.stats, "limit": limit}
    if numbers.cgroup_version == 1:
        shown["max_usage"] = memory.max_usage
    if memory.failcnt:
        shown["failcnt"] = memory.failcnt
    return shown


_BLKIO_NAMES = (
    "io_service_bytes_recursive",
    "io_serviced_recursive",
    "io_queue_recursive",
    "io_service_time_recursive",
    "io_wait_time_recursive",
    "io_merged_recursive",
    "io_time_recursive",
    "sectors_recursive",
)


def _blkio(numbers: Metrics) -> dict[str, Any]:
    """Lists that v2 does not have are null."""
    blkio = numbers.blkio
    lists = (
        blkio.service_bytes,
        blkio.serviced,
        blkio.queued,
        blkio.service_time,
        blkio.wait_time,
        blkio.merged,
        blkio.time,
        blkio.sectors,
    )
    only_v1 = numbers.cgroup_version == 1
    shown: dict[str, Any] = {}
    for name, entries in zip(_BLKIO_NAMES, lists, strict=True):
        shown[name] = [_blkio_entry(entry) for entry in entries] if entries or only_v1 else None
    return shown


def _blkio_entry(entry: BlkioEntry) -> dict[str, Any]:
    return {"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value}
