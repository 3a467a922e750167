"""HostConfig as a whole: the common and the Linux part, in Docker's order."""

from __future__ import annotations

from msgspec import UNSET

from services.engine.containers import capabilities, modes
from services.engine.containers.mount_check import check_destination, check_mount
from services.engine.containers.sysinfo import SysInfo
from services.engine.containers.validate.network import check_dns, check_extra_hosts, check_ports
from services.engine.containers.validate.resources import check_resources
from services.engine.containers.validate.restart import check_auto_remove, check_policy
from services.protocol.api.containers import HostConfig
from services.protocol.errors import InvalidParameter, Unimplemented
from services.protocol.settings import Settings

#: Names under which the native runtime is known (``docker info`` lists the first).
RUNTIMES = ("runc", "io.containerd.runc.v2")


def check_isolation(host: HostConfig) -> None:
    if host.isolation.lower() not in ("", "default"):
        raise InvalidParameter(f"invalid isolation ({host.isolation}): linux only supports 'default'")


def check_host(settings: Settings, host: HostConfig, info: SysInfo) -> list[str]:
    """moby ``validateHostConfig`` and ``verifyPlatformContainerSettings``; returns warnings."""
    check_auto_remove(host)
    for mount in [] if host.mounts is UNSET else host.mounts:
        check_mount(mount, source_must_exist=False)  # the source: when it is looked at, off the loop
    check_extra_hosts(host)
    check_ports(host)
    if host.restart_policy is not None:
        check_policy(host.restart_policy)
    _check_capabilities(host)
    if host.annotations is not UNSET and "" in host.annotations:
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    check_dns(host)
    warnings = check_resources(host, info)
    warnings.extend(_check_linux(settings, host))
    return warnings


def _check_capabilities(host: HostConfig) -> None:
    for name, values in (("CapAdd", host.cap_add), ("CapDrop", host.cap_drop)):
        try:
            capabilities.normalize(values or [])
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid {name}: {error}") from error


def _check_linux(settings: Settings, host: HostConfig) -> list[str]:
    warnings = []
    if not modes.valid_ipc(host.ipc_mode):
        raise InvalidParameter(f"invalid IPC mode: {host.ipc_mode}")
    if not modes.valid_pid(host.pid_mode):
        raise InvalidParameter(f"invalid PID mode: {host.pid_mode}")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if not modes.valid_uts(host.uts_mode):
        raise InvalidParameter(f"invalid UTS mode: {host.uts_mode}")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if not modes.valid_userns(host.userns_mode):
        raise InvalidParameter(f"invalid user namespace mode: {host.userns_mode}")
    if host.network_mode == "host" and host.port_bindings:
        warnings.append("Published ports are discarded when using host network mode")
    _check_runtime(settings, host)
    for destination in {} if host.tmpfs is UNSET else host.tmpfs:
        check_destination(destination)
    if not modes.valid_cgroupns(host.cgroupns_mode):
        raise InvalidParameter(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    return warnings


def _check_runtime(settings: Settings, host: HostConfig) -> None:
    if host.runtime is UNSET or not host.runtime:
        host.runtime = settings.default_runtime
    if host.runtime not in RUNTIMES:
        raise InvalidParameter(f"unknown or invalid runtime name: {host.runtime}")


def check_implemented(host: HostConfig) -> None:
    """Refuse by name what this engine does not do."""
    if host.cgroup:
        raise Unimplemented("HostConfig.Cgroup is not implemented")
    if host.cpu_count:
        raise Unimplemented("HostConfig.CpuCount is not implemented on linux")
