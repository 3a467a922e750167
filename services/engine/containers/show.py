"""Pieces of a container that both ``inspect`` and ``ps`` show."""

from __future__ import annotations

from msgspec.structs import replace

from services.engine.containers.model import ContainerMount, Entry, MountKind
from services.engine.containers.transitions import has_task
from services.protocol.api.containers import MountPoint
from services.protocol.api.networks import EndpointSettings


def mount_points(entry: Entry) -> list[MountPoint]:
    return [_mount_point(mount) for mount in entry.definition.mounts]


def _mount_point(mount: ContainerMount) -> MountPoint:
    point = MountPoint(
        type_=mount.kind.value,
        source=mount.source,
        destination=mount.destination,
        mode=mount.mode,
        rw=mount.rw,
        propagation=mount.propagation,
    )
    if mount.kind is MountKind.VOLUME:
        point.name, point.driver = mount.name, mount.driver
    elif mount.kind is MountKind.IMAGE:
        point.name = mount.name
    return point


def networks(entry: Entry) -> dict[str, EndpointSettings]:
    """The endpoints as they are while it runs, as they were asked for otherwise.

    A hardware address that was asked for is not shown between the first start and the next.
    """
    if has_task(entry.state) and entry.state.endpoints:
        return entry.state.endpoints
    return {
        name: replace(settings, mac_address="") if settings.network_id else settings
        for name, settings in entry.definition.endpoints.items()
    }


def command(entry: Entry) -> str:
    """Path and arguments in one line; only spaces are quoted, as Docker does."""
    words = [f"'{word}'" if " " in word else word for word in entry.definition.args]
    return " ".join([entry.definition.path, *words])
