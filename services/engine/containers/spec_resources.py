"""The limits of a container as the OCI document and ``docker update`` give them to the runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from services.protocol import oci
from services.protocol.api import containers as api
from services.protocol.errors import SystemError_

#: Microseconds of the period that NanoCpus are shared out in.
_NANO_CPU_PERIOD = 100_000
#: Of memory and swap; what is less says nothing.
_UNLIMITED = -1


def build_resources(limits: api.Resources, devices: list[oci.DeviceCgroup]) -> oci.Resources:
    """Everything but what is not limited; raises ``SystemError_`` for a block device that is not there."""
    return oci.Resources(
        devices=devices,
        memory=memory(limits),
        cpu=cpu(limits),
        pids=pids(limits),
        block_io=block_io(limits),
    )


def memory(limits: api.Resources) -> oci.Memory | None:
    result = oci.Memory(
        limit=limits.memory if limits.memory > 0 else None,
        reservation=limits.memory_reservation if limits.memory_reservation > 0 else None,
        swap=limits.memory_swap if limits.memory_swap > 0 or limits.memory_swap == _UNLIMITED else None,
        swappiness=limits.memory_swappiness,
        disable_oom_killer=limits.oom_kill_disable or None,
    )
    return None if result == oci.Memory() else result


def cpu(limits: api.Resources) -> oci.Cpu | None:
    result = oci.Cpu(
        shares=limits.cpu_shares or None,
        quota=limits.cpu_quota or None,
        period=limits.cpu_period or None,
        realtime_period=limits.cpu_realtime_period or None,
        realtime_runtime=limits.cpu_realtime_runtime or None,
        cpus=limits.cpuset_cpus or None,
        mems=limits.cpuset_mems or None,
    )
    if limits.nano_cpus > 0:
        result.period = _NANO_CPU_PERIOD
        result.quota = limits.nano_cpus * _NANO_CPU_PERIOD // 1_000_000_000
    return None if result == oci.Cpu() else result


def pids(limits: api.Resources) -> oci.Pids | None:
    """0 and less take the limit away, which the runtime knows as -1."""
    if limits.pids_limit is None:
        return None
    return oci.Pids(limit=limits.pids_limit if limits.pids_limit > 0 else -1)


def block_io(limits: api.Resources) -> oci.BlockIO | None:
    result = oci.BlockIO(
        weight=limits.blkio_weight or None,
        weight_device=[_weight(device) for device in limits.blkio_weight_device or []],
        throttle_read_bps_device=_throttles(limits.blkio_device_read_bps),
        throttle_write_bps_device=_throttles(limits.blkio_device_write_bps),
        throttle_read_iops_device=_throttles(limits.blkio_device_read_iops),
        throttle_write_iops_device=_throttles(limits.blkio_device_write_iops),
    )
    return None if result == oci.BlockIO() else result


@dataclass(frozen=True)
class _Number:
    major: int
    minor: int


def _number(path: str) -> _Number:
    try:
        status = os.stat(path)
    except OSError as error:
        raise SystemError_(f"stat {path}: {(error.strerror or '').lower()}") from error
    except ValueError as error:  # a NUL in the path
        raise SystemError_(f"stat {path}: invalid argument") from error
    return _Number(os.major(status.st_rdev), os.minor(status.st_rdev))


def _weight(device: api.WeightDevice) -> oci.WeightDevice:
    number = _number(device.path)
    return oci.WeightDevice(major=number.major, minor=number.minor, weight=device.weight)


def _throttles(devices: Sequence[api.ThrottleDevice] | None) -> list[oci.ThrottleDevice]:
    result = []
    for device in devices or []:
        number = _number(device.path)
        result.append(oci.ThrottleDevice(major=number.major, minor=number.minor, rate=device.rate))
    return result
