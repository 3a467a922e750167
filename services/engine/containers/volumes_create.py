"""The volumes of a new container: named ones taken or made, anonymous ones made, filled from the image."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import UNSET

from reexec.helpers.copyup import CopiedUp
from services.engine.containers.model import ContainerMount, MountKind
from services.engine.containers.mount_parse import Wanted, clean
from services.engine.containers.services import Services
from services.engine.scopes import Undo
from services.protocol.api.containers import Config, HostConfig
from services.protocol.errors import SystemError_

_LOCAL = "local"


#: File in a container's directory: the anonymous volumes made for it, one name a line. A create that
#: a crash cut off leaves the directory without a container, and ``restore`` removes them.
JOURNAL = "volumes"


async def create_volumes(
    services: Services, container_id: str, wanted: list[Wanted], config: Config, host: HostConfig, undo: Undo
) -> list[ContainerMount]:
    """The container's mounts, each volume there; anonymous ones are removed again by *undo*.

    What the configuration names by its place only is a volume unless something else is mounted there,
    a tmpfs of ``Tmpfs`` included (whose place counts as it is written).
    """
    journal = services.container_dir(container_id) / JOURNAL
    for item in wanted:
        mount = item.mount
        if mount.kind is MountKind.VOLUME and not mount.source:
            await _create(services, item, journal, undo)
            if mount.driver == _LOCAL:
                mount.mode = mount.mode or "z"
    mounts = [item.mount for item in wanted]
    taken = {mount.destination for mount in mounts} | set({} if host.tmpfs is UNSET else host.tmpfs)
    for path in config.volumes or {}:
        if (destination := clean(path)) in taken:
            continue
        mount = ContainerMount(kind=MountKind.VOLUME, destination=destination, driver=host.volume_driver)
        await _create(services, Wanted(mount), journal, undo)
        mounts.append(mount)
        taken.add(destination)
    return mounts


async def _create(services: Services, item: Wanted, journal: Path, undo: Undo) -> None:
    mount = item.mount
    anonymous = not mount.name
    volume = await services.volumes.create(
        mount.name, mount.driver, item.driver_options, item.labels, on_name=lambda name: _note(journal, name)
    )
    mount.name, mount.driver, mount.source = volume.name, volume.driver, volume.mountpoint
    if anonymous:
        name = volume.name
        undo.push(lambda: services.volumes.remove(name, force=True))


def _note(journal: Path, name: str) -> None:
    with journal.open("a") as file:
        file.write(f"{name}\n")


def settle(directory: Path) -> None:
    """The container is recorded, and its volumes with it."""
    (directory / JOURNAL).unlink(missing_ok=True)


def noted(directory: Path) -> list[str]:
    """The anonymous volumes made for the container whose directory this is."""
    try:
        return (directory / JOURNAL).read_text().splitlines()
    except FileNotFoundError:
        return []


async def fill_volumes(
    services: Services, container_id: str, mounts: list[ContainerMount], wanted: list[Wanted]
) -> None:
    """Copy what the image has at the destination into each empty volume.

    Raises ``SystemError_``: the volume cannot be mounted, or it would be over a file.
    """
    asked = [item.mount for item in wanted]
    for mount in mounts:
        if mount.kind is not MountKind.VOLUME or not mount.copy_data or mount.subpath:
            continue
        if await _fill(services, container_id, mount) is CopiedUp.FILE:
            driver = services.layers.graph_driver(container_id).data or {}
            path = driver.get("MergedDir", "") + mount.destination
            if mount in asked:
                raise SystemError_(f"source {path} is not directory")
            raise SystemError_(f"cannot mount volume over existing file, file exists {path}")


async def _fill(services: Services, container_id: str, mount: ContainerMount) -> CopiedUp:
    # A volume with options is really mounted, which may fail: not where there is nothing to copy.
    if services.volumes.get(mount.name).options and not await _is_there(services, container_id, mount):
        return CopiedUp.ABSENT
    try:
        target = await services.volumes.mount(mount.name, container_id)
    except SystemError_ as error:
        raise SystemError_(f"failed to populate volume: {error}") from error
    try:
        if not _is_empty(target):
            return CopiedUp.KEPT
        return await services.layers.copy_up(container_id, mount.destination, target)
    finally:
        await services.volumes.unmount(mount.name, container_id)


async def _is_there(services: Services, container_id: str, mount: ContainerMount) -> bool:
    layers = services.layers
    return await layers.path_stat(layers.root(container_id), mount.destination) is not None


def _is_empty(directory: str) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None
