"""Counters of cgroup v2 files as :class:`~services.protocol.metrics.Metrics`."""

from __future__ import annotations

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

_BYTES = {"rbytes": "read", "wbytes": "write"}
_OPERATIONS = {"rios": "read", "wios": "write"}


def collect(directory: str) -> Metrics:
    """Controllers that are not enabled leave the defaults. Times in the files are microseconds."""
    cpu = base.read_table(directory, "cpu.stat")
    return Metrics(
        cgroup_version=2,
        cpu=CpuMetrics(
            total=cpu.get("usage_usec", 0) * 1000,
            user=cpu.get("user_usec", 0) * 1000,
            kernel=cpu.get("system_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_usec", 0) * 1000,
        ),
        memory=MemoryMetrics(
            usage=base.read_int(directory, "memory.current"),
            limit=_limit(directory, "memory.max"),
            stats=base.read_table(directory, "memory.stat"),
        ),
        pids=PidsMetrics(
            current=base.read_int(directory, "pids.current"), limit=_limit(directory, "pids.max")
        ),
        blkio=BlkioMetrics(service_bytes=_block(directory, _BYTES), serviced=_block(directory, _OPERATIONS)),
    )


def _limit(directory: str, name: str) -> int:
    value = base.read_int(directory, name, -1)
    return UNLIMITED if value < 0 else value


def _block(directory: str, keys: dict[str, str]) -> list[BlkioEntry]:
    entries = []
    for line in base.read(directory, "io.stat").splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in keys and minor.isdigit():
                entries.append(BlkioEntry(major=int(major), minor=int(minor), op=keys[key], value=int(value)))
    return entries
