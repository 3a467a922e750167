"""What images, volumes and networks may know of the containers that use them."""

from __future__ import annotations

from collections.abc import Sequence

from services.engine.containers.model import Entry, MountKind, Status
from services.engine.containers.registry import Registry
from services.engine.contracts import ContainerUse, ContainerUsers

_LIVE = (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


def of(registry: Registry) -> ContainerUsers:
    """A view of *registry* that is true whenever it is called."""

    def users() -> Sequence[ContainerUse]:
        return [_use(entry) for entry in registry]

    return users


def _use(entry: Entry) -> ContainerUse:
    definition = entry.definition
    # Its anonymous volumes go before its record: they must not be in use by it any more.
    going = entry.state.status is Status.REMOVING
    return ContainerUse(
        id=definition.id,
        name=definition.name,
        running=entry.state.status in _LIVE,
        image_id=definition.image_id,
        image_name=definition.image_reference,
        mounted_images=[mount.image_id for mount in definition.mounts if mount.image_id],
        volumes=[mount.name for mount in definition.mounts if mount.kind is MountKind.VOLUME and not going],
        networks=list(definition.endpoints),
    )
