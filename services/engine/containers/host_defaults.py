"""What HostConfig says where the request said nothing, as ``inspect`` shows it.

A list or map that the client left null stays null, one that it sent empty stays empty.
"""

from __future__ import annotations

import functools
from pathlib import Path

from services.engine.containers.modes import joined_container
from services.engine.containers.registry import Registry
from services.engine.containers.sysinfo import sysinfo
from services.engine.containers.values import int64
from services.protocol.api.containers import HostConfig, RestartPolicy
from services.protocol.errors import InvalidParameter, NotFound, WharfError
from services.protocol.settings import Settings

_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_LABEL_DISABLE = "label=disable"


def fill_before_checks(host: HostConfig) -> None:
    if host.restart_policy is None:
        host.restart_policy = RestartPolicy()
    if not host.restart_policy.name:
        host.restart_policy.name = "no"
    host.console_size = ([*(host.console_size or []), 0, 0])[:2]
    if host.port_bindings is None:
        host.port_bindings = {}


def fill_defaults(settings: Settings, registry: Registry, host: HostConfig) -> None:
    """moby ``adaptContainerSettings``; raises ``InvalidParameter`` when a joined container is missing."""
    if host.memory > 0 and host.memory_swap == 0:
        host.memory_swap = int64(host.memory * 2)
    host.shm_size = host.shm_size or settings.default_shm_size
    host.ipc_mode = host.ipc_mode or settings.default_ipc_mode
    host.cgroupns_mode = host.cgroupns_mode or _default_cgroupns(settings, host)
    host.ipc_mode = by_id(registry, host.ipc_mode)
    host.pid_mode = by_id(registry, host.pid_mode)
    host.network_mode = by_id(registry, host.network_mode)
    _fill_security(registry, host)
    if host.oom_kill_disable is None:
        host.oom_kill_disable = False
    if not host.privileged:
        host.masked_paths = list(masked_paths()) if host.masked_paths is None else host.masked_paths
        host.readonly_paths = list(_READ_ONLY) if host.readonly_paths is None else host.readonly_paths


def _default_cgroupns(settings: Settings, host: HostConfig) -> str:
    unified = sysinfo().unified
    if host.privileged and not unified:
        return "host"
    return settings.default_cgroupns_mode or ("private" if unified else "host")


def by_id(registry: Registry, mode: str) -> str:
    """``container:<name>`` with the id instead, so that a rename does not matter."""
    ref = joined_container(mode)
    if not ref:
        return mode
    try:
        return f"container:{registry.get(ref).id}"
    except WharfError:
        return mode


def _fill_security(registry: Registry, host: HostConfig) -> None:
    """Labels of processes that share namespaces must agree (moby ``generateSecurityOpt``)."""
    if any(option.split("=")[0] == "label" for option in host.security_opt or []):
        return
    if host.ipc_mode == "host" or host.pid_mode == "host" or host.privileged:
        host.security_opt = [*(host.security_opt or []), _LABEL_DISABLE]
        return
    for mode in (host.ipc_mode, host.pid_mode):
        if ref := joined_container(mode):
            try:
                registry.get(ref)
            except NotFound as error:
                # Not a 404, which clients take for a missing image.
                raise InvalidParameter(str(error)) from error


@functools.cache
def masked_paths() -> tuple[str, ...]:
    """Docker's list, with the thermal counters of each CPU that has them."""
    cpus = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle"))
    return (*_MASKED, *(str(path) for path in cpus))
