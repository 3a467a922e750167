"""Devices of a container: nodes to make and the device cgroup's rules (moby ``daemon/pkg/oci``)."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence

from services.engine.containers.values import go_quote
from services.protocol import oci
from services.protocol.api.containers import DeviceMapping, DeviceRequest, HostConfig
from services.protocol.errors import SystemError_

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})\Z", re.ASCII)
_NOT_A_DEVICE = "not a device node"

#: Beside what the runtime allows every container: null, zero, random, urandom, tty and console.
_DEFAULT_DEVICES = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))
_DENY_ALL = oci.DeviceCgroup(allow=False, type="a", access="rwm")
_ALLOW_ALL = oci.DeviceCgroup(allow=True, type="a", access="rwm")
#: Docker's, in its order: the runtime tells a rule that it refuses by its place.
_DEFAULT_RULES = (
    _DENY_ALL,
    *(oci.DeviceCgroup(allow=True, type="c", major=one, minor=two) for one, two in _DEFAULT_DEVICES),
    oci.DeviceCgroup(allow=False, type="c", major=10, minor=229),  # fuse
)
#: Not to be copied into a privileged container: they are per container or per terminal.
_SKIPPED_IN_DEV = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def build_devices(host: HostConfig) -> tuple[list[oci.Device], list[oci.DeviceCgroup]]:
    """(nodes, rules); raises ``SystemError_`` with Docker's texts."""
    for request in host.device_requests or []:
        raise _no_driver(request)
    if host.privileged:
        return _host_devices() + _mapped_privileged(host.devices), [_ALLOW_ALL]
    nodes: list[oci.Device] = []
    rules = list(_DEFAULT_RULES)
    for mapping in host.devices or []:
        for node in devices_of(mapping.path_on_host, mapping.path_in_container):
            nodes.append(node)
            rules.append(_rule(node.type, node.major, node.minor, mapping.cgroup_permissions))
    rules.extend(parse_rule(rule) for rule in host.device_cgroup_rules or [])
    return nodes, rules


def _no_driver(request: DeviceRequest) -> SystemError_:
    """No device driver is there: what Docker's engine says on a host without any."""
    capabilities = request.capabilities or []
    if request.driver == "cdi":
        return SystemError_(
            f"CDI device injection failed: unresolvable CDI devices {', '.join(request.device_ids or [])}"
        )
    if not request.driver and any("gpu" in wanted for wanted in capabilities):
        return SystemError_("failed to discover GPU vendor from CDI: no known GPU vendor found")
    listed = " ".join(f"[{' '.join(wanted)}]" for wanted in capabilities)
    return SystemError_(
        f"could not select device driver {go_quote(request.driver)} with capabilities: [{listed}]"
    )


def _rule(kind: str, major: int | None, minor: int | None, access: str) -> oci.DeviceCgroup:
    return oci.DeviceCgroup(allow=True, type=kind, major=major, minor=minor, access=access)


def parse_rule(text: str) -> oci.DeviceCgroup:
    """``c 10:237 rwm``; raises ``SystemError_``."""
    match = _RULE.match(text)
    if match is None:
        raise SystemError_(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = match.groups()
    return _rule(kind, None if major == "*" else int(major), None if minor == "*" else int(minor), access)


def _mapped_privileged(mappings: Sequence[DeviceMapping] | None) -> list[oci.Device]:
    """A privileged container has every device; only those under another name are added."""
    nodes = []
    for mapping in mappings or []:
        if mapping.path_on_host != mapping.path_in_container:
            nodes.extend(devices_of(mapping.path_on_host, mapping.path_in_container))
    return nodes


def devices_of(path_on_host: str, path_in_container: str) -> list[oci.Device]:
    """The device at *path_on_host*, or every device below it when it is a directory."""
    try:
        resolved = _resolved(path_on_host)
        if (node := _device(resolved, path_in_container)) is not None:
            return [node]
        nodes = _walk(resolved, path_in_container) if _is_directory(resolved) else []
        reason = _NOT_A_DEVICE
    except OSError as error:
        nodes, reason = [], (error.strerror or "").lower()
    except ValueError:  # a NUL in the path
        nodes, reason = [], "invalid argument"
    if not nodes:
        quoted = go_quote(path_on_host)
        raise SystemError_(
            f"error gathering device information while adding custom device {quoted}: {reason}"
        )
    return nodes


def _resolved(path: str) -> str:
    """A link in a directory of devices (``/dev/disk/by-id``) is what it leads to, if that is in /dev.

    A link elsewhere is not followed: who may name a device need not be who made the link.
    """
    if not os.path.islink(path):
        return path
    target = os.path.realpath(path)
    return target if f"{target}/".startswith("/dev/") else path


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _walk(directory: str, path_in_container: str) -> list[oci.Device]:
    nodes = []
    for parent, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)
            inside = os.path.join(path_in_container, os.path.relpath(path, directory))
            try:
                node = _device(_resolved(path), inside)
            except OSError:
                continue
            if node is not None:
                nodes.append(node)
    return nodes


def _device(path: str, path_in_container: str) -> oci.Device | None:
    status = os.lstat(path)
    if stat.S_ISBLK(status.st_mode):
        kind = "b"
    elif stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISFIFO(status.st_mode):
        kind = "p"
    else:
        return None
    return oci.Device(
        path=path_in_container,
        type=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        file_mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )


def _host_devices() -> list[oci.Device]:
    """Every device of the host but consoles, which are the runtime's to make."""
    nodes = []
    for parent, folders, names in os.walk("/dev"):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_IN_DEV)
        for name in sorted(names):
            path = os.path.join(parent, name)
            if path in ("/dev/console", "/dev/ptmx"):
                continue
            try:
                node = _device(path, path)
            except OSError:
                continue
            if node is not None and node.type != "p":
                nodes.append(node)
    return nodes
