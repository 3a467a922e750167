"""COPY and ADD: sources found and summed in the context or in another image, then copied into a layer."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass

from reexec.archive.rootfs import RootSpec
from reexec.helpers.buildcopy import BuildCopy, Found
from services.engine.builder.output import BuildFailed
from services.engine.containers.ids import new_id
from services.engine.helpers import Helpers, ask, document
from services.engine.layers import Layer, LayerManager
from services.engine.scopes import shielded
from services.protocol.errors import InvalidParameter


@dataclass(frozen=True)
class Copy:
    """A step with its words expanded. ``destination`` is absolute; ``source`` the context or an image."""

    source: RootSpec
    sources: tuple[str, ...]
    destination: str
    owner: str
    unpack: bool
    from_context: bool


async def find(helpers: Helpers, copy: Copy, name: str) -> list[Found]:
    """The sources with their checksums. Raises :class:`BuildFailed` ("COPY failed: ...")."""
    arguments = BuildCopy(
        source=copy.source, sources=list(copy.sources), unpack=copy.unpack, context=copy.from_context
    )
    try:
        found = await ask(helpers, document("docker-buildcopy", arguments), list[Found])
    except InvalidParameter as error:
        raise BuildFailed(f"{name} failed: {error}") from error
    if len(found) > 1 and not copy.destination.endswith("/"):
        raise BuildFailed(
            f"When using {name} with more than one source file, the destination must be a directory "
            "and end with a /"
        )
    return found


def checksum(found: list[Found]) -> str:
    """``file:<hex>``, ``dir:<hex>`` or ``multi:<hex>``, as the history has it."""
    kinds = [f"{'dir' if one.kind == 'dir' else 'file'}:{one.checksum}" for one in found]
    if len(kinds) == 1:
        return kinds[0]
    return "multi:" + hashlib.sha256(",".join(kinds).encode()).hexdigest()


def absolute(working_dir: str, destination: str) -> str:
    """*destination* below the working directory; a slash (or a dot) at its end is kept as a slash."""
    path = posixpath.normpath(posixpath.join("/", working_dir, destination))
    directory = destination.endswith(("/", "/.")) or destination in (".", "..")
    return path + "/" if directory and path != "/" else path


async def copy_into(
    layers: LayerManager, helpers: Helpers, copy: Copy, found: list[Found], chain_id: str
) -> Layer:
    """The layer that *copy* makes on *chain_id*, with the caller as a user of it."""
    layer_id = new_id()
    await layers.create(layer_id, chain_id, {})
    try:
        for one in found:
            arguments = BuildCopy(
                source=copy.source,
                sources=["/" + one.path.lstrip("/")],
                target=layers.root(layer_id),
                destination=_destination(copy, one),
                owner=copy.owner,
                unpack=one.kind == "archive",
                context=copy.from_context,
            )
            await helpers.run(document("docker-buildcopy", arguments))
        return await layers.commit(layer_id)
    finally:
        await shielded(layers.remove(layer_id))


def _destination(copy: Copy, one: Found) -> str:
    """Of a directory the content is copied; a link's target keeps the name it was asked for."""
    if one.kind == "dir":
        return copy.destination.rstrip("/") + "/"
    if copy.destination.endswith("/") and one.kind == "file":
        return copy.destination + one.name
    return copy.destination
