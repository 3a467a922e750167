"""The OCI document of a container (``config.json``), from its definition and its prepared mounts."""

from __future__ import annotations

import functools
import posixpath
from pathlib import Path

from msgspec import UNSET

from services.engine.containers import security
from services.engine.containers.model import Container, Entry
from services.engine.containers.modes import has_own_network
from services.engine.containers.services import Services
from services.engine.containers.spec_devices import build_devices
from services.engine.containers.spec_namespaces import build_namespaces
from services.engine.containers.spec_process import build_process
from services.engine.containers.spec_resources import build_resources
from services.engine.containers.spec_seccomp import build_seccomp
from services.protocol import oci
from services.protocol.errors import SystemError_

#: Parent cgroup of the containers when neither daemon nor container names one.
DEFAULT_CGROUP_PARENT = "/docker"
#: Below the bundle; the runtime mounts the layers here, inside the container's mount namespace.
ROOTFS = "rootfs"


def build_spec(services: Services, entry: Entry, *, mounts: list[oci.Mount]) -> oci.Spec:
    """*mounts* are those of :func:`services.engine.containers.mounts.prepare_mounts`.

    ``linux.seccomp`` is ``Seccomp(default_action="default")`` for the runtime's own profile, None
    for unconfined. Raises ``InvalidParameter``/``SystemError_`` with Docker's text.
    """
    definition = entry.definition
    host = definition.host_config
    options = security.parse(host.security_opt, no_new_privileges=services.settings.no_new_privileges)
    process = build_process(services.settings, definition, options)
    assert process.capabilities is not None
    devices, rules = build_devices(host)
    own_hostname = host.uts_mode != "host"
    return oci.Spec(
        process=process,
        root=oci.Root(path=ROOTFS, readonly=host.readonly_rootfs),
        hostname=definition.config.hostname if own_hostname else "",
        domainname=definition.config.domainname if own_hostname else "",
        mounts=mounts,
        annotations={} if host.annotations is UNSET else dict(host.annotations),
        linux=oci.Linux(
            sysctl=_sysctls(definition),
            resources=build_resources(host, rules),
            cgroups_path=cgroups_path(services, definition),
            namespaces=build_namespaces(services.registry, definition),
            devices=devices,
            seccomp=build_seccomp(
                services.settings, options, process.capabilities.bounding, privileged=host.privileged
            ),
            rootfs_propagation=_root_propagation(mounts),
            masked_paths=[] if host.privileged else host.masked_paths or [],
            readonly_paths=[] if host.privileged else host.readonly_paths or [],
            mount_label=definition.mount_label,
        ),
    )


def cgroups_path(services: Services, definition: Container) -> str:
    """Below the parent that the container, else the daemon, names."""
    parent = definition.host_config.cgroup_parent or services.settings.cgroup_parent or DEFAULT_CGROUP_PARENT
    # Cleaned as if it began at the root, so that ".." leads nowhere above it.
    return posixpath.normpath(f"/{parent.lstrip('/')}/{definition.id}")


def _sysctls(definition: Container) -> dict[str, str]:
    """Docker's defaults for a network of one's own, and what the user set.

    What belongs to a namespace that is the host's is refused: it would change the host.
    """
    host = definition.host_config
    values = dict(_network_sysctls()) if has_own_network(host.network_mode) else {}
    asked = {} if host.sysctls is UNSET else host.sysctls
    if host.uts_mode == "host" and definition.config.domainname:
        values["kernel.domainname"] = definition.config.domainname  # for the runtime to refuse
    for name in asked:
        if name.startswith("net.") and host.network_mode == "host":
            raise SystemError_(f'sysctl "{name}" not allowed in host network namespace')
        if _is_ipc_sysctl(name) and host.ipc_mode == "host":
            raise SystemError_(f'sysctl "{name}" not allowed in host ipc namespace')
    return {**values, **asked}


def _is_ipc_sysctl(name: str) -> bool:
    return name.startswith(("kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue."))


@functools.cache
def _network_sysctls() -> tuple[tuple[str, str], ...]:
    """Unprivileged ports and ping sockets, where the kernel has the settings."""
    wanted = (
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
    )
    root = Path("/proc/sys")
    return tuple(item for item in wanted if root.joinpath(*item[0].split(".")).exists())


def _root_propagation(mounts: list[oci.Mount]) -> str:
    """A shared or slave mount needs a root that lets events through (moby ``WithMounts``)."""
    options = {option for mount in mounts for option in mount.options}
    if options & {"shared", "rshared"}:
        return "shared"
    if options & {"slave", "rslave"}:
        return "rslave"
    return ""
