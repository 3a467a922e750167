"""Counters of cgroup v1 files as :class:`~services.protocol.metrics.Metrics`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from services.containerd_shim.runtime.cgroups import base
from services.protocol.metrics import (
    UNLIMITED,
    BlkioEntry,
    BlkioMetrics,
    CpuMetrics,
    MemoryMetrics,
    Metrics,
    PidsMetrics,
)

#: Values at and above this are the kernel's "no limit" (PAGE_COUNTER_MAX, whole pages).
_NO_LIMIT = 1 << 62
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def collect(paths: Mapping[str, str]) -> Metrics:
    """Controllers that are not mounted leave their counters at the defaults."""
    metrics = Metrics(cgroup_version=1)
    metrics.cpu = _cpu(paths.get("cpuacct"), paths.get("cpu"))
    if directory := paths.get("memory"):
        metrics.memory = _memory(directory)
    if directory := paths.get("pids"):
        limit = base.read_int(directory, "pids.max", -1)
        metrics.pids = PidsMetrics(
            current=base.read_int(directory, "pids.current"), limit=UNLIMITED if limit < 0 else limit
        )
    if directory := paths.get("blkio"):
        metrics.blkio = BlkioMetrics(
            service_bytes=_block(directory, "io_service_bytes"), serviced=_block(directory, "io_serviced")
        )
    return metrics


def _cpu(accounting: str | None, cpu: str | None) -> CpuMetrics:
    metrics = CpuMetrics()
    if accounting:
        metrics.total = base.read_int(accounting, "cpuacct.usage")
        metrics.per_cpu = [int(value) for value in base.read(accounting, "cpuacct.usage_percpu").split()]
        ticks = base.read_table(accounting, "cpuacct.stat")
        metrics.user = ticks.get("user", 0) * _TICK_NS
        metrics.kernel = ticks.get("system", 0) * _TICK_NS
    if cpu:
        table = base.read_table(cpu, "cpu.stat")
        metrics.periods = table.get("nr_periods", 0)
        metrics.throttled_periods = table.get("nr_throttled", 0)
        metrics.throttled_time = table.get("throttled_time", 0)
    return metrics


def _memory(directory: str) -> MemoryMetrics:
    limit = base.read_int(directory, "memory.limit_in_bytes", -1)
    return MemoryMetrics(
        usage=base.read_int(directory, "memory.usage_in_bytes"),
        max_usage=base.read_int(directory, "memory.max_usage_in_bytes"),
        failcnt=base.read_int(directory, "memory.failcnt"),
        limit=UNLIMITED if limit < 0 or limit >= _NO_LIMIT else limit,
        stats=base.read_table(directory, "memory.stat"),
    )


def _block(directory: str, name: str) -> list[BlkioEntry]:
    """The first of the files that has lines: with bfq, with throttling, and their older names."""
    for file in (f"blkio.bfq.{name}_recursive", f"blkio.throttle.{name}_recursive", f"blkio.throttle.{name}"):
        entries = []
        for line in base.read(directory, file).splitlines():
            fields = line.split()
            if len(fields) == 3 and ":" in fields[0]:
                major, minor = fields[0].split(":")
                entry = BlkioEntry(major=int(major), minor=int(minor), op=fields[1], value=int(fields[2]))
                entries.append(entry)
        if entries:
            return entries
    return []
