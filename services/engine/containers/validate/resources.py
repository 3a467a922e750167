"""Limits: memory, processes, CPU, block I/O (moby ``verifyPlatformContainerResources``).

What the kernel cannot limit is dropped with a warning, as Docker does.
"""

from __future__ import annotations

from collections.abc import Callable

from services.engine.containers.sysinfo import SysInfo, parse_set
from services.protocol.api.containers import Resources
from services.protocol.errors import InvalidParameter

MINIMUM_MEMORY = 6 * 1024 * 1024
_NO_SUPPORT = "Your kernel does not support"

Check = Callable[[Resources, SysInfo, bool], list[str]]


def check_resources(resources: Resources, info: SysInfo, *, update: bool = False) -> list[str]:
    """Returns warnings; raises ``InvalidParameter``. Discarded limits are reset in *resources*."""
    warnings: list[str] = []
    for check in _CHECKS:
        warnings.extend(check(resources, info, update))
    return warnings


def check_early(resources: Resources, info: SysInfo) -> None:
    """What is looked at before everything else (moby ``validateQoS``, ``validateResources``)."""
    if resources.io_maximum_bandwidth:
        raise InvalidParameter("invalid QoS settings: linux does not support --io-maxbandwidth")
    if resources.io_maximum_iops:
        raise InvalidParameter("invalid QoS settings: linux does not support --io-maxiops")
    period, runtime = resources.cpu_realtime_period, resources.cpu_realtime_runtime
    if (period or runtime) and not info.cpu_realtime:
        raise InvalidParameter("kernel does not support CPU real-time scheduler")
    if period and runtime and runtime > period:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")


def _memory(resources: Resources, info: SysInfo, update: bool) -> list[str]:
    warnings = []
    if resources.memory_swappiness == -1:
        resources.memory_swappiness = None
    if resources.memory != 0 and resources.memory < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if resources.memory > 0 and not info.memory:
        warnings.append(
            f"{_NO_SUPPORT} memory limit capabilities or the cgroup is not mounted. Limitation discarded."
        )
        resources.memory, resources.memory_swap = 0, -1
    if resources.memory > 0 and resources.memory_swap != -1 and not info.swap:
        warnings.append(
            f"{_NO_SUPPORT} swap limit capabilities or the cgroup is not mounted. "
            "Memory limited without swap."
        )
        resources.memory_swap = -1
    if resources.memory > 0 and 0 < resources.memory_swap < resources.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if resources.memory == 0 and resources.memory_swap > 0 and not update:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    return warnings


def _swappiness(resources: Resources, info: SysInfo, _: bool) -> list[str]:
    warnings = []
    if resources.memory_swappiness is not None and not info.swappiness:
        warnings.append(
            f"{_NO_SUPPORT} memory swappiness capabilities or the cgroup is not mounted. "
            "Memory swappiness discarded."
        )
        resources.memory_swappiness = None
    if (value := resources.memory_swappiness) is not None and not 0 <= value <= 100:
        raise InvalidParameter(f"Invalid value: {value}, valid memory swappiness range is 0-100")
    return warnings


def _reservation(resources: Resources, info: SysInfo, _: bool) -> list[str]:
    warnings = []
    if resources.memory_reservation > 0 and not info.memory_reservation:
        warnings.append(
            f"{_NO_SUPPORT} memory soft limit capabilities or the cgroup is not mounted. "
            "Limitation discarded."
        )
        resources.memory_reservation = 0
    if 0 < resources.memory_reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if 0 < resources.memory < resources.memory_reservation:
        raise InvalidParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    return warnings


def _oom_and_pids(resources: Resources, info: SysInfo, _: bool) -> list[str]:
    warnings = []
    if resources.oom_kill_disable is not None and not info.oom_kill_disable:
        if resources.oom_kill_disable:
            warnings.append(f"{_NO_SUPPORT} OomKillDisable. OomKillDisable discarded.")
        resources.oom_kill_disable = None
    if resources.oom_kill_disable and resources.memory == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    if resources.pids_limit is not None and not info.pids:
        if resources.pids_limit > 0:
            warnings.append(
                f"{_NO_SUPPORT} PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
            )
        resources.pids_limit = None
    return warnings


def _nano_cpus(resources: Resources, info: SysInfo, _: bool) -> list[str]:
    if resources.nano_cpus > 0 and resources.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if resources.nano_cpus > 0 and resources.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if resources.nano_cpus > 0 and not info.cpu_cfs:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler "
            "or the cgroup is not mounted"
        )
    count = info.cpu_count
    if resources.nano_cpus < 0 or resources.nano_cpus > count * 1_000_000_000:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    return []


def _cpu(resources: Resources, info: SysInfo, _: bool) -> list[str]:
    warnings = []
    if resources.cpu_shares > 0 and not info.cpu_shares:
        warnings.append(f"{_NO_SUPPORT} CPU shares or the cgroup is not mounted. Shares discarded.")
        resources.cpu_shares = 0
    if resources.cpu_shares < 0:
        raise InvalidParameter(
            f"invalid CPU shares ({resources.cpu_shares}): value must be a positive integer"
        )
    if (resources.cpu_period or resources.cpu_quota) and not info.cpu_cfs:
        warnings.append(f"{_NO_SUPPORT} CPU CFS scheduler. CPU period/quota discarded.")
        resources.cpu_period = resources.cpu_quota = 0
    if resources.cpu_period and not 1000 <= resources.cpu_period <= 1_000_000:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < resources.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if resources.cpu_percent > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        resources.cpu_percent = 0
    return warnings


def _cpuset(resources: Resources, info: SysInfo, _: bool) -> list[str]:
    warnings = []
    if (resources.cpuset_cpus or resources.cpuset_mems) and not info.cpuset:
        warnings.append(f"{_NO_SUPPORT} cpuset or the cgroup is not mounted. Cpuset discarded.")
        resources.cpuset_cpus = resources.cpuset_mems = ""
    _check_set("cpuset cpus", "CPUs", resources.cpuset_cpus, info.cpus)
    _check_set("cpuset mems", "memory nodes", resources.cpuset_mems, info.memory_nodes)
    return warnings


def _check_set(name: str, what: str, requested: str, available: str) -> None:
    try:
        wanted = parse_set(requested)
    except ValueError as error:
        raise InvalidParameter(f"Invalid value {requested} for {name}: {error}") from error
    if not wanted <= parse_set(available):
        raise InvalidParameter(
            f"Requested {what} are not available - requested {requested}, available: {available}"
        )


def _block_io(resources: Resources, info: SysInfo, _: bool) -> list[str]:
    warnings = []
    if resources.blkio_weight > 0 and not info.blkio_weight:
        warnings.append(f"{_NO_SUPPORT} Block I/O weight or the cgroup is not mounted. Weight discarded.")
        resources.blkio_weight = 0
    if resources.blkio_weight > 0 and not 10 <= resources.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if resources.blkio_weight_device and not info.blkio_weight_device:
        warnings.append(
            f"{_NO_SUPPORT} Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
        )
        resources.blkio_weight_device = []
    if not info.blkio_throttle:
        warnings.extend(_discard_throttles(resources))
    return warnings


def _discard_throttles(resources: Resources) -> list[str]:
    texts = {
        "blkio_device_read_bps": ("BPS Block I/O read limit", "Block I/O BPS read limit"),
        "blkio_device_write_bps": ("BPS Block I/O write limit", "Block I/O BPS write limit"),
        "blkio_device_read_iops": ("IOPS Block read limit", "Block I/O IOPS read limit"),
        "blkio_device_write_iops": ("IOPS Block write limit", "Block I/O IOPS write limit"),
    }
    warnings = []
    for field, (what, discarded) in texts.items():
        if getattr(resources, field):
            warnings.append(f"{_NO_SUPPORT} {what} or the cgroup is not mounted. {discarded} discarded.")
            setattr(resources, field, [])
    return warnings


#: In Docker's order: the first that fails is what the user reads.
_CHECKS: tuple[Check, ...] = (
    _memory,
    _swappiness,
    _reservation,
    _oom_and_pids,
    _nano_cpus,
    _cpu,
    _cpuset,
    _block_io,
)
