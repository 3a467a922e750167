"""Counters of a container's cgroup, as ``StatsResponse.metrics`` carries them (msgpack).

Raw values of the cgroup files; the engine makes Docker's stats document of them. A value that the
kernel or the cgroup version does not give is left at its default. Times are nanoseconds, sizes bytes.
"""

from __future__ import annotations

import msgspec

#: Value of ``MemoryMetrics.limit`` and ``PidsMetrics.limit`` without a limit.
UNLIMITED = (1 << 64) - 1


class CpuMetrics(msgspec.Struct, kw_only=True):
    """``user`` and ``kernel`` are v1's ``cpuacct.usage_user``/``usage_sys`` or v2's ``cpu.stat``.

    ``per_cpu`` is v1's ``cpuacct.usage_percpu`` and empty on v2. Periods and throttled time are
    those of ``cpu.stat``.
    """

    total: int = 0
    user: int = 0
    kernel: int = 0
    per_cpu: list[int] = []
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class MemoryMetrics(msgspec.Struct, kw_only=True):
    """``max_usage`` and ``failcnt`` exist on v1 only; ``stats`` is the whole of ``memory.stat``."""

    usage: int = 0
    max_usage: int = 0
    failcnt: int = 0
    limit: int = UNLIMITED
    stats: dict[str, int] = {}


class PidsMetrics(msgspec.Struct, kw_only=True):
    current: int = 0
    limit: int = UNLIMITED


class BlkioEntry(msgspec.Struct, kw_only=True):
    """``op`` is Read, Write, Sync, Async, Discard, Total on v1 and read, write on v2."""

    major: int
    minor: int
    op: str
    value: int


class BlkioMetrics(msgspec.Struct, kw_only=True):
    """The ``_recursive`` files of v1's blkio; v2's ``io.stat`` gives the first two."""

    service_bytes: list[BlkioEntry] = []
    serviced: list[BlkioEntry] = []
    queued: list[BlkioEntry] = []
    service_time: list[BlkioEntry] = []
    wait_time: list[BlkioEntry] = []
    merged: list[BlkioEntry] = []
    time: list[BlkioEntry] = []
    sectors: list[BlkioEntry] = []


class Metrics(msgspec.Struct, kw_only=True):
    """``cgroup_version`` is 1 (also hybrid) or 2; it decides the shape of the document."""

    cgroup_version: int = 1
    cpu: CpuMetrics = msgspec.field(default_factory=CpuMetrics)
    memory: MemoryMetrics = msgspec.field(default_factory=MemoryMetrics)
    pids: PidsMetrics = msgspec.field(default_factory=PidsMetrics)
    blkio: BlkioMetrics = msgspec.field(default_factory=BlkioMetrics)


encode = msgspec.msgpack.encode
decode = msgspec.msgpack.Decoder(Metrics).decode
