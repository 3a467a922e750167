"""The namespaces of a container, and what it joins of other containers."""

from __future__ import annotations

from services.engine.containers.model import Container, Entry, Status
from services.engine.containers.modes import joined_container
from services.engine.containers.registry import Registry
from services.protocol import oci
from services.protocol.errors import Conflict, InvalidParameter, NotFound, SystemError_


def build_namespaces(registry: Registry, definition: Container) -> list[oci.Namespace]:
    """Raises what :func:`network_owner`, :func:`ipc_owner` and :func:`pid_owner` raise."""
    host = definition.host_config
    namespaces = [oci.Namespace(type="mount")]
    if host.uts_mode != "host":
        namespaces.append(oci.Namespace(type="uts"))
    if host.cgroupns_mode == "private":
        namespaces.append(oci.Namespace(type="cgroup"))
    namespaces.extend(_namespace("network", host.network_mode, network_owner(registry, definition), "net"))
    namespaces.extend(_namespace("ipc", host.ipc_mode, ipc_owner(registry, definition), "ipc"))
    namespaces.extend(_namespace("pid", host.pid_mode, pid_owner(registry, definition), "pid"))
    return namespaces


def _namespace(kind: str, mode: str, owner: Entry | None, file: str) -> list[oci.Namespace]:
    if owner is not None:
        return [oci.Namespace(type=kind, path=f"/proc/{owner.state.pid}/ns/{file}")]
    return [] if mode == "host" else [oci.Namespace(type=kind)]


def network_owner(registry: Registry, definition: Container) -> Entry | None:
    """The running container whose network *definition* joins; None when it joins nobody's.

    Raises ``NotFound`` and ``Conflict`` with Docker's texts.
    """
    ref = joined_container(definition.host_config.network_mode)
    if ref is None:
        return None
    try:
        owner = registry.get(ref)
    except NotFound as error:
        raise NotFound(f"joining network namespace of container: {error}") from error
    if owner.id == definition.id:
        raise InvalidParameter("cannot join own network namespace")
    if owner.state.status not in (Status.RUNNING, Status.PAUSED):
        name, status = owner.definition.name, owner.state.status.value
        if status == Status.RESTARTING:
            raise Conflict(f"Container {owner.id} is restarting, wait until the container is running")
        raise Conflict(
            f"cannot join network namespace of a non running container: container {name} is {status}"
        )
    return owner


def ipc_owner(registry: Registry, definition: Container) -> Entry | None:
    """The running container whose IPC namespace and /dev/shm *definition* joins."""
    ref = joined_container(definition.host_config.ipc_mode)
    if ref is None:
        return None
    prefix = "failed to join IPC namespace: "
    try:
        owner = registry.get(ref)
    except NotFound as error:
        raise InvalidParameter(f"{prefix}{error}") from error
    _check_running(owner, prefix)
    mode = owner.definition.host_config.ipc_mode
    if mode not in ("shareable", "host") and joined_container(mode) is None:
        raise InvalidParameter(
            f"{prefix}container {owner.id}: non-shareable IPC "
            "(hint: use IpcMode:shareable for the donor container)"
        )
    return owner


def pid_owner(registry: Registry, definition: Container) -> Entry | None:
    """The running container whose processes *definition* sees.

    That there is none is the state's fault and not the request's: ``SystemError_`` (moby ``containerStart``).
    """
    ref = joined_container(definition.host_config.pid_mode)
    if ref is None:
        return None
    prefix = "failed to join PID namespace: "
    try:
        owner = registry.get(ref)
        _check_running(owner)
    except (Conflict, NotFound) as error:
        raise SystemError_(f"{prefix}{error}") from error
    return owner


def _check_running(owner: Entry, prefix: str = "") -> None:
    if owner.state.status == Status.RESTARTING:
        raise Conflict(f"{prefix}container {owner.id} is restarting")
    if owner.state.status not in (Status.RUNNING, Status.PAUSED):
        raise Conflict(f"{prefix}container {owner.id} is not running")
