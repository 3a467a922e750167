"""Mounts of type ``image``: another image's tree, read-only, kept as long as the container is there.

The tree is mounted anew by every start, by the runtime and inside the container's own mount namespace
(``ContainerMount.inside``); what is held in between is the image's chain of layers.
"""

from __future__ import annotations

import functools
import logging
import posixpath

from services.engine.containers.model import ContainerMount, Entry, MountKind
from services.engine.containers.services import Services
from services.engine.scopes import Undo
from services.protocol import oci
from services.protocol.errors import SystemError_

log = logging.getLogger(__name__)


def hold(services: Services, mounts: list[ContainerMount], undo: Undo) -> None:
    """Resolve each image and keep its layers. Raises ``NotFound`` ("No such image: ...")."""
    for mount in mounts:
        if mount.kind is not MountKind.IMAGE or mount.chain_id:
            continue
        image = services.images.resolve(mount.name)
        chain = image.chain_id
        if not chain:
            raise SystemError_(f"image {mount.name} has no layers to mount")
        services.layers.retain(chain)
        undo.push(functools.partial(services.layers.free, chain))
        mount.image_id, mount.chain_id = image.id, chain
        mount.source = (services.layers.image_graph_driver(chain).data or {}).get("MergedDir", "")


def adopt(services: Services, entry: Entry) -> None:
    """Keep the layers of a container of an earlier engine; those that are lost are missed at its start."""
    for mount in entry.definition.mounts:
        if mount.kind is not MountKind.IMAGE or not mount.chain_id:
            continue
        try:
            services.layers.retain(mount.chain_id)
        except SystemError_ as error:
            log.error("container %s cannot be started: %s", entry.id, error)
            mount.chain_id = ""  # not held, and so not given back


async def give_back(services: Services, entry: Entry) -> None:
    for mount in entry.definition.mounts:
        if mount.kind is MountKind.IMAGE and mount.chain_id:
            await services.layers.free(mount.chain_id)


async def tree(services: Services, mount: ContainerMount) -> oci.Mount:
    """The whole tree of the image; raises ``SystemError_`` if the subpath is not there."""
    if not mount.chain_id:
        raise SystemError_(f"the layers of image {mount.name} are gone")
    root = services.layers.image_root(mount.chain_id)
    if mount.subpath and await services.layers.path_stat(root, f"/{mount.subpath}") is None:
        path = posixpath.normpath(f"{mount.source}/{mount.subpath}")
        raise SystemError_(f"cannot access path {path}: no such file or directory")
    (whole,) = root.mounts
    return oci.Mount(destination="/", type=whole.type, source=whole.source, options=whole.options)
