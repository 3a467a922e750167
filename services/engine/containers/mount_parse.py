"""What a request mounts, as :class:`ContainerMount`: ``Binds``, ``Mounts``, ``VolumesFrom``.

Precedence is Docker's (moby ``registerMountPoints``): volumes of other containers, then binds, then
mounts, then the anonymous volumes of the configuration; the last for a destination wins, but binds
and mounts among themselves must not meet.
"""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import UNSET

from services.engine.containers import mount_modes
from services.engine.containers.model import ContainerMount, MountKind
from services.engine.containers.mount_check import check_mount, flag, text, tmpfs_options
from services.engine.containers.registry import Registry
from services.protocol.api.containers import BindOptions, Driver, HostConfig, Mount, VolumeOptions
from services.protocol.errors import InvalidParameter, NotFound, SystemError_, WharfError


@dataclass
class Wanted:
    """A mount of a request; the rest of the fields is for the volume it may create."""

    mount: ContainerMount
    driver_options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] | None = None


def collect(registry: Registry, host: HostConfig, *, old_read_only: bool) -> list[Wanted]:
    """Everything *host* mounts but tmpfs of ``Tmpfs``; raises with Docker's texts and kinds.

    ``old_read_only``: the API is older than 1.44, where a read-only bind is not recursively so.
    """
    points: dict[str, Wanted] = {}
    for item in host.volumes_from or []:
        for mount in volumes_from(registry, item):
            points[mount.destination] = Wanted(mount)
    own: set[str] = set()
    for raw in host.binds or []:
        _claim(points, own, parse_bind(raw, host.volume_driver, old_read_only=old_read_only))
    for spec in [] if host.mounts is UNSET else host.mounts:
        wanted = parse_mount(spec, old_read_only=old_read_only, source_must_exist=True)
        wanted.mount.from_mounts_api = True
        _claim(points, own, wanted)
    return list(points.values())


def _claim(points: dict[str, Wanted], own: set[str], wanted: Wanted) -> None:
    destination = wanted.mount.destination
    if destination in own:
        raise InvalidParameter(f"Duplicate mount point: {destination}")
    own.add(destination)
    points[destination] = wanted


def parse_volumes_from(spec: str) -> tuple[str, str]:
    """(container, mode); propagation and copy modes are not for volumes of others."""
    if not spec:
        raise InvalidParameter("volumes-from specification cannot be an empty string")
    ref, _, mode = spec.partition(":")
    if not mode:
        return ref, "rw"
    if not mount_modes.is_valid(mode) or mount_modes.propagation(mode) or mount_modes.no_copy(mode):
        raise InvalidParameter(f"invalid mode: {mode}")
    return ref, mode


def volumes_from(registry: Registry, spec: str) -> list[ContainerMount]:
    """The mounts of another container, as writable as there and as *spec* allows."""
    ref, mode = parse_volumes_from(spec)
    try:
        entry = registry.get(ref)
    except NotFound as error:
        raise InvalidParameter(str(error)) from error
    result = []
    for mount in entry.definition.mounts:
        if mount.kind is MountKind.IMAGE:
            continue  # its layers are held by the container that asked for them
        copied = copy.copy(mount)
        copied.rw = mount.rw and mount_modes.is_writable(mode)
        copied.mode, copied.copy_data = "", False
        result.append(copied)
    return result


def parse_bind(raw: str, volume_driver: str, *, old_read_only: bool) -> Wanted:
    """One of ``Binds``: ``[source:]destination[:mode]``.

    Raises ``SystemError_``: Docker's engine answers 500 here.
    """
    parts = raw.split(":", 3)
    invalid = f"invalid volume specification: '{raw}'"
    if not parts[0] or len(parts) > 3 or (len(parts) == 2 and mount_modes.is_valid(parts[1])):
        raise SystemError_(invalid)
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    if not mount_modes.is_valid(mode):
        raise SystemError_(f"invalid mode: {mode}")
    spec = _bind_spec(source, target, mode, volume_driver)
    try:
        wanted = parse_mount(spec, old_read_only=old_read_only, source_must_exist=False)
    except WharfError as error:
        raise SystemError_(f"{invalid}: {error}") from error
    wanted.mount.mode = mode
    wanted.mount.create_source = True
    return wanted


def _bind_spec(source: str, target: str, mode: str, volume_driver: str) -> Mount:
    is_bind = source.startswith("/")
    spec = Mount(
        type_="bind" if is_bind else "volume",
        source=source,
        target=target,
        read_only=not mount_modes.is_writable(mode),
    )
    if not is_bind and volume_driver:
        spec.volume_options = VolumeOptions(driver_config=Driver(name=volume_driver))
    if mount_modes.no_copy(mode):
        options = VolumeOptions() if spec.volume_options is UNSET else spec.volume_options
        options.no_copy = True
        spec.volume_options = options
    if propagation := mount_modes.propagation(mode):
        spec.bind_options = BindOptions(propagation=propagation)
    return spec


def parse_mount(spec: Mount, *, old_read_only: bool, source_must_exist: bool) -> Wanted:
    """One of ``Mounts``, checked."""
    check_mount(spec, source_must_exist=source_must_exist)
    kind = MountKind(text(spec.type_))
    mount = ContainerMount(
        kind=kind, destination=clean(text(spec.target)), rw=not flag(spec.read_only), copy_data=False
    )
    wanted = Wanted(mount)
    if kind is MountKind.BIND:
        _fill_bind(mount, spec, old_read_only=old_read_only)
    elif kind is MountKind.VOLUME:
        _fill_volume(wanted, spec)
    elif kind is MountKind.IMAGE:
        mount.name, mount.rw = text(spec.source), False
        if spec.image_options is not UNSET:
            mount.subpath = text(spec.image_options.subpath)
    else:
        mount.tmpfs_options = tmpfs_options(spec.tmpfs_options, read_only=not mount.rw)
    return wanted


def _fill_bind(mount: ContainerMount, spec: Mount, *, old_read_only: bool) -> None:
    mount.source = clean(text(spec.source))
    mount.propagation = mount_modes.DEFAULT_PROPAGATION
    mount.read_only_non_recursive = old_read_only
    options = spec.bind_options
    if options is UNSET:
        return
    mount.propagation = text(options.propagation) or mount_modes.DEFAULT_PROPAGATION
    mount.non_recursive = flag(options.non_recursive)
    mount.create_source = flag(options.create_mountpoint)
    mount.read_only_non_recursive = old_read_only or flag(options.read_only_non_recursive)
    mount.read_only_force_recursive = flag(options.read_only_force_recursive)
    _check_read_only(mount)


def _check_read_only(mount: ContainerMount) -> None:
    if not mount.read_only_force_recursive:
        return
    reason = ""
    if mount.rw:
        reason = "mode must be specified as read-only"
    elif mount.propagation != mount_modes.DEFAULT_PROPAGATION:
        reason = "propagation must be rprivate"
    elif mount.read_only_non_recursive:
        reason = "mutually exclusive with BindOptions.ReadOnlyNonRecursive"
    if reason:
        raise InvalidParameter(f"BindOptions.ReadOnlyForceRecursive: {reason}")


def _fill_volume(wanted: Wanted, spec: Mount) -> None:
    mount = wanted.mount
    mount.name = text(spec.source)
    mount.copy_data = True
    options = spec.volume_options
    if options is UNSET:
        return
    mount.copy_data = not flag(options.no_copy)
    mount.subpath = text(options.subpath)
    wanted.labels = None if options.labels is UNSET else options.labels
    if options.driver_config is not UNSET:
        mount.driver = text(options.driver_config.name)
        driver_options = options.driver_config.options
        wanted.driver_options = {} if driver_options is UNSET else driver_options


def clean(path: str) -> str:
    """Go's ``path.Clean`` of an absolute path."""
    return "/" + posixpath.normpath(path).lstrip("/")
