"""A container's mounts at start: volumes held, sources checked, the list for the OCI document."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from msgspec import UNSET

from services.engine.containers import image_mounts, security
from services.engine.containers.model import Container, ContainerMount, Entry, MountKind
from services.engine.containers.mount_modes import DEFAULT_PROPAGATION
from services.engine.containers.mount_parse import clean
from services.engine.containers.mount_sources import bind_source, volume_source
from services.engine.containers.mounts_default import default_mounts, read_only_root, tmpfs_mount
from services.engine.containers.services import Services
from services.engine.containers.spec_namespaces import ipc_owner, network_owner
from services.engine.containers.spec_process import init_mount, wants_init
from services.engine.scopes import Undo
from services.protocol import oci

Release = Callable[[], Awaitable[None]]

#: File in the container's directory -> where the container sees it.
ETC_FILES = {"hostname": "/etc/hostname", "hosts": "/etc/hosts", "resolv.conf": "/etc/resolv.conf"}


async def prepare_mounts(services: Services, entry: Entry) -> tuple[list[oci.Mount], Release]:
    """All mounts of a start, in order, and what gives back the volumes it holds.

    The files of ``etc.write_files`` must be there. The release is idempotent; after a crash
    :func:`release_mounts` does the same without it.
    """
    definition = entry.definition
    async with Undo() as undo:
        undo.push(lambda: release_mounts(services, entry))
        users = [await _user_mount(services, entry, mount) for mount in definition.mounts]
        users.extend(_tmpfs_mounts(definition))
        users.extend(_etc_mounts(services, definition, {mount.destination for mount in users}))
        users.sort(key=lambda mount: mount.destination.rstrip("/").count("/"))
        mounts = _merge(services, definition, users)
        undo.keep()

    async def release() -> None:
        await release_mounts(services, entry)

    return mounts, release


async def release_mounts(services: Services, entry: Entry) -> None:
    """Give back every volume of *entry*; idempotent."""
    for name in {mount.name for mount in entry.definition.mounts if mount.kind is MountKind.VOLUME}:
        await services.volumes.unmount(name, entry.id, told=True)


def _merge(services: Services, definition: Container, users: list[oci.Mount]) -> list[oci.Mount]:
    """The default mounts, but those a user's replaces, and the users' after them."""
    options = security.parse(definition.host_config.security_opt)
    replaced = {mount.destination for mount in users}
    mounts = [
        mount
        for mount in default_mounts(
            definition,
            ipc_owner(services.registry, definition),
            writable_cgroups=options.writable_cgroups,
        )
        if mount.destination not in replaced
        and not ("/dev" in replaced and mount.destination.startswith("/dev/"))
    ]
    mounts.extend(users)
    if wants_init(services.settings, definition):
        mounts.append(init_mount())
    if definition.host_config.readonly_rootfs:
        read_only_root(mounts, replaced)
    return mounts


async def _user_mount(services: Services, entry: Entry, mount: ContainerMount) -> oci.Mount:
    if mount.kind is MountKind.TMPFS:
        return tmpfs_mount(mount.destination, mount.tmpfs_options)
    if mount.kind is MountKind.IMAGE:
        part = msgspec.structs.replace(mount, source=f"/{mount.subpath}", rw=False)
        return _part(part, await image_mounts.tree(services, mount))
    if mount.inside is not None:
        return _part(mount, mount.inside)
    if mount.kind is MountKind.BIND:
        # Sources may be on network file systems: never on the event loop.
        source = await asyncio.to_thread(bind_source, mount)
    else:
        told = {
            "destination": mount.destination,
            "read/write": str(mount.rw).lower(),
            "propagation": mount.propagation,
        }
        path = await services.volumes.mount(mount.name, entry.id, told)
        source = await asyncio.to_thread(volume_source, path, mount.subpath) if mount.subpath else path
    return oci.Mount(destination=mount.destination, type="bind", source=source, options=_bind_options(mount))


def _part(mount: ContainerMount, whole: oci.Mount) -> oci.Mount:
    options = [*whole.options, f"X-mount.subdir={mount.source}", mount.propagation or DEFAULT_PROPAGATION]
    return oci.Mount(
        destination=mount.destination,
        type=whole.type,
        source=whole.source,
        options=options if mount.rw else [*options, "ro"],
    )


def _bind_options(mount: ContainerMount) -> list[str]:
    options = ["bind" if mount.non_recursive else "rbind"]
    if not mount.rw:
        options.append("ro")
        if not mount.read_only_non_recursive:
            options.append("rro")
    options.append(mount.propagation or DEFAULT_PROPAGATION)
    return options


def _tmpfs_mounts(definition: Container) -> list[oci.Mount]:
    """Those of ``Tmpfs``: destination -> options, comma-separated."""
    tmpfs = definition.host_config.tmpfs
    wanted = {} if tmpfs is UNSET else tmpfs
    return [tmpfs_mount(clean(path), options.split(",")) for path, options in wanted.items()]


def _etc_mounts(services: Services, definition: Container, replaced: set[str]) -> list[oci.Mount]:
    """The files of the container whose network it is; a user's own mount takes the place of one."""
    if definition.config.network_disabled is True:
        return []
    owner = network_owner(services.registry, definition)
    directory: Path = services.container_dir(owner.id if owner is not None else definition.id)
    options = ["rbind", DEFAULT_PROPAGATION]
    if definition.host_config.readonly_rootfs:
        options.append("ro")
    return [
        oci.Mount(destination=path, type="bind", source=str(directory / name), options=list(options))
        for name, path in ETC_FILES.items()
        if path not in replaced
    ]
