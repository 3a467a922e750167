"""OCI ``linux.resources`` written to cgroup v1 files (Documentation/admin-guide/cgroup-v1)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping

from services.containerd_shim.runtime.cgroups import base
from services.containerd_shim.runtime.cgroups.devices import v1_writes
from services.protocol import oci
from services.protocol.errors import InvalidParameter, SystemError_, Unimplemented


def apply(paths: Mapping[str, str], resources: oci.Resources) -> None:
    """Write every limit that is given; raises InvalidParameter when its controller is not mounted."""
    if resources.unified:
        raise InvalidParameter("unified resources need cgroup v2, and this host uses cgroup v1")
    if resources.network:
        raise Unimplemented("linux.resources.network is not implemented")
    if resources.devices and "devices" in paths:
        _devices(paths["devices"], resources.devices)
    if resources.memory is not None:
        _memory(_controller(paths, "memory"), resources.memory)
    if resources.cpu is not None:
        _cpu(paths, resources.cpu)
    if resources.pids is not None:
        _pids(paths, resources.pids)
    if resources.block_io is not None:
        _block(_controller(paths, "blkio"), resources.block_io)
    for limit in resources.hugepage_limits:
        base.write(
            _controller(paths, "hugetlb"),
            f"hugetlb.{limit.page_size}.limit_in_bytes",
            _unlimited(limit.limit),
        )


def _controller(paths: Mapping[str, str], name: str) -> str:
    if name not in paths:
        raise InvalidParameter(f"cgroup controller {name!r} is not mounted on this host")
    return paths[name]


def _unlimited(value: int) -> int:
    """Go's unsigned -1 arrives as 2**64-1."""
    return -1 if value >= 1 << 63 else value


def _devices(directory: str, rules: Iterable[oci.DeviceCgroup]) -> None:
    for name, text in v1_writes(rules):
        base.write(directory, name, text)


def _memory(directory: str, memory: oci.Memory) -> None:
    limit, swap = memory.limit, memory.swap
    if limit == -1 and swap is None and os.path.exists(f"{directory}/memory.memsw.limit_in_bytes"):
        swap = -1
    if limit and swap:
        # memory.limit may never exceed memory.memsw.limit, so the order depends on the direction.
        current = base.read_int(directory, "memory.limit_in_bytes")
        if swap == -1 or current < swap:
            _limit_swap(directory, swap)
            _limit_memory(directory, limit)
        else:
            _limit_memory(directory, limit)
            _limit_swap(directory, swap)
    elif limit:
        _limit_memory(directory, limit)
    elif swap:
        _limit_swap(directory, swap)
    if memory.reservation:
        base.write(directory, "memory.soft_limit_in_bytes", memory.reservation)
    if memory.kernel:
        base.write(directory, "memory.kmem.limit_in_bytes", memory.kernel)
    if memory.kernel_tcp:
        base.write(directory, "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp)
    if memory.swappiness is not None and 0 <= memory.swappiness <= 100:
        base.write(directory, "memory.swappiness", memory.swappiness)
    if memory.disable_oom_killer is not None:
        base.write(directory, "memory.oom_control", int(memory.disable_oom_killer))


def _limit_memory(directory: str, limit: int) -> None:
    try:
        base.write(directory, "memory.limit_in_bytes", limit)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        usage = base.read_int(directory, "memory.usage_in_bytes")
        peak = base.read_int(directory, "memory.max_usage_in_bytes")
        raise SystemError_(
            f"unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
        ) from error


def _limit_swap(directory: str, swap: int) -> None:
    base.write(directory, "memory.memsw.limit_in_bytes", swap)


def _cpu(paths: Mapping[str, str], cpu: oci.Cpu) -> None:
    if cpu.cpus or cpu.mems:
        directory = _controller(paths, "cpuset")
        for name, value in (("cpuset.cpus", cpu.cpus), ("cpuset.mems", cpu.mems)):
            if value:
                base.write(directory, name, value)
    values = (
        cpu.shares,
        cpu.quota,
        cpu.period,
        cpu.burst,
        cpu.idle,
        cpu.realtime_period,
        cpu.realtime_runtime,
    )
    if not any(value is not None for value in values):
        return
    directory = _controller(paths, "cpu")
    if cpu.shares:
        _shares(directory, cpu.shares)
    if cpu.period:
        _period(directory, cpu)
    elif cpu.quota:
        base.write(directory, "cpu.cfs_quota_us", cpu.quota)
    if cpu.burst is not None:
        base.write(directory, "cpu.cfs_burst_us", cpu.burst)
    if cpu.idle is not None:
        base.write(directory, "cpu.idle", cpu.idle)
    if cpu.realtime_period:
        base.write(directory, "cpu.rt_period_us", cpu.realtime_period)
    if cpu.realtime_runtime:
        base.write(directory, "cpu.rt_runtime_us", cpu.realtime_runtime)


def _shares(directory: str, shares: int) -> None:
    """The kernel takes any number and makes it one that it allows: an error, as with runc."""
    base.write(directory, "cpu.shares", shares)
    taken = base.read_int(directory, "cpu.shares")
    if shares != taken:
        bound = "maximum" if shares > taken else "minimum"
        raise base.RefusedError(f"the {bound} allowed cpu-shares is {taken}")


def _period(directory: str, cpu: oci.Cpu) -> None:
    """Period and quota are checked against each other: the old quota can forbid the new period."""
    try:
        base.write(directory, "cpu.cfs_period_us", cpu.period or 0)
        written = True
    except OSError as error:
        if error.errno != errno.EINVAL or not cpu.quota:
            raise
        written = False
    if cpu.quota:
        base.write(directory, "cpu.cfs_quota_us", cpu.quota)
    if not written:
        base.write(directory, "cpu.cfs_period_us", cpu.period or 0)


def _pids(paths: Mapping[str, str], pids: oci.Pids) -> None:
    if pids.limit <= 0 and "pids" not in paths:
        return
    base.write(_controller(paths, "pids"), "pids.max", pids.limit if pids.limit > 0 else "max")


def _block(directory: str, block: oci.BlockIO) -> None:
    if block.leaf_weight or any(device.leaf_weight for device in block.weight_device):
        raise Unimplemented("blockIO.leafWeight is not implemented: the kernel no longer has it")
    prefix = "blkio" if os.path.exists(f"{directory}/blkio.weight") else "blkio.bfq"
    if block.weight:
        base.write(directory, f"{prefix}.weight", block.weight)
    for device in block.weight_device:
        base.write(directory, f"{prefix}.weight_device", f"{device.major}:{device.minor} {device.weight}")
    for name, devices in (
        ("read_bps", block.throttle_read_bps_device),
        ("write_bps", block.throttle_write_bps_device),
        ("read_iops", block.throttle_read_iops_device),
        ("write_iops", block.throttle_write_iops_device),
    ):
        for throttle in devices:
            base.write(
                directory,
                f"blkio.throttle.{name}_device",
                f"{throttle.major}:{throttle.minor} {throttle.rate}",
            )
