"""OCI ``linux.resources``, whose units are cgroup v1's, written to cgroup v2 files.

The conversions are those of the runtime specification and runc (libcontainer/cgroups/fs2).
"""

from __future__ import annotations

import errno
import os

from services.containerd_shim.runtime.cgroups import base
from services.protocol import oci
from services.protocol.errors import InvalidParameter, Unimplemented

_DEFAULT_PERIOD = 100_000


def apply(directory: str, resources: oci.Resources) -> None:
    """Write every limit that is given."""
    if resources.network:
        raise Unimplemented("linux.resources.network is not implemented")
    if resources.memory is not None:
        _memory(directory, resources.memory)
    if resources.cpu is not None:
        _cpu(directory, resources.cpu)
    if resources.pids is not None:
        _pids(directory, resources.pids)
    if resources.block_io is not None:
        _block(directory, resources.block_io)
    for limit in resources.hugepage_limits:
        base.write(directory, f"hugetlb.{limit.page_size}.max", _amount(limit.limit))
    for name, value in resources.unified.items():
        if "/" in name:
            raise InvalidParameter(f"unified resource {name!r} must be a file name")
        base.write(directory, name, value)


def _amount(value: int) -> str:
    return "max" if value < 0 or value >= 1 << 63 else str(value)


def swap_limit(memory: int | None, memory_and_swap: int) -> str:
    """v1 limits memory plus swap, v2 swap alone.

    Raises InvalidParameter where the difference has no meaning.
    """
    if memory_and_swap == -1:
        return "max"
    if not memory or memory == -1:
        raise InvalidParameter("unable to set swap limit without memory limit")
    if memory_and_swap < memory:
        raise InvalidParameter("memory+swap limit should be >= memory limit")
    return str(memory_and_swap - memory)


def _memory(directory: str, memory: oci.Memory) -> None:
    if memory.kernel or memory.kernel_tcp:
        raise Unimplemented("kernel memory limits do not exist in cgroup v2")
    if memory.disable_oom_killer:
        raise Unimplemented("the OOM killer cannot be disabled in cgroup v2")
    if memory.swap:
        value = swap_limit(memory.limit, memory.swap)
        try:
            base.write(directory, "memory.swap.max", value)
        except FileNotFoundError:
            if value not in ("0", "max"):
                raise
    elif memory.limit == -1 and os.path.exists(f"{directory}/memory.swap.max"):
        base.write(directory, "memory.swap.max", "max")
    if memory.limit:
        base.write(directory, "memory.max", _amount(memory.limit))
    if memory.reservation:
        base.write(directory, "memory.low", _amount(memory.reservation))


def weight_of_shares(shares: int) -> int:
    """cpu.shares [2, 262144] on cpu.weight [1, 10000]; 1024 shares are 39."""
    shares = min(max(shares, 2), 262_144)
    return 1 + ((shares - 2) * 9999) // 262_142


def _cpu(directory: str, cpu: oci.Cpu) -> None:
    if cpu.realtime_period or cpu.realtime_runtime:
        raise Unimplemented("realtime CPU limits do not exist in cgroup v2")
    if cpu.idle is not None:
        base.write(directory, "cpu.idle", cpu.idle)
    if cpu.shares:
        base.write(directory, "cpu.weight", weight_of_shares(cpu.shares))
    if cpu.quota or cpu.period:
        quota = _amount(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
        base.write(directory, "cpu.max", f"{quota} {cpu.period or _DEFAULT_PERIOD}")
    if cpu.burst is not None:
        base.write(directory, "cpu.max.burst", cpu.burst)
    for name, value in (("cpuset.cpus", cpu.cpus), ("cpuset.mems", cpu.mems)):
        if value:
            base.write(directory, name, value)


def _pids(directory: str, pids: oci.Pids) -> None:
    try:
        base.write(directory, "pids.max", pids.limit if pids.limit > 0 else "max")
    except FileNotFoundError:
        if pids.limit > 0:
            raise


def _block(directory: str, block: oci.BlockIO) -> None:
    if block.leaf_weight or any(device.leaf_weight for device in block.weight_device):
        raise Unimplemented("blockIO.leafWeight is not implemented: the kernel no longer has it")
    if block.weight:
        _block_weight(directory, block.weight)
    for device in block.weight_device:
        base.write(directory, "io.bfq.weight", f"{device.major}:{device.minor} {device.weight}")
    for key, devices in (
        ("rbps", block.throttle_read_bps_device),
        ("wbps", block.throttle_write_bps_device),
        ("riops", block.throttle_read_iops_device),
        ("wiops", block.throttle_write_iops_device),
    ):
        for throttle in devices:
            base.write(
                directory, "io.max", f"{throttle.major}:{throttle.minor} {key}={throttle.rate or 'max'}"
            )


def _block_weight(directory: str, weight: int) -> None:
    """bfq takes 1 to 1000 like v1; io.weight takes 1 to 10000."""
    try:
        base.write(directory, "io.bfq.weight", weight)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise
        base.write(directory, "io.weight", 1 + (weight - 10) * 9999 // 990)
