"""``RUN --mount``: what the cache has to know of a mount, and the mount itself when the step runs.

Sources of binds are the context, a stage or an image. What a step writes to a bind is lost with it:
a writable one is an overlay, or a copy where the graph driver has none.
"""

from __future__ import annotations

import asyncio
import json
import os
import posixpath
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from reexec.archive.rootfs import MountSpec, RootSpec
from reexec.helpers.buildfind import BuildFind, Found
from reexec.helpers.copyup import CopyUp
from services.engine.builder import context
from services.engine.builder.cachemounts import CacheMounts
from services.engine.builder.output import BuildFailed
from services.engine.containers.ids import new_id
from services.engine.containers.model import ContainerMount, MountKind
from services.engine.containers.mount_modes import DEFAULT_PROPAGATION
from services.engine.containers.mount_parse import clean
from services.engine.containers.registry import Registry
from services.engine.dockerfile.mountflags import RunMount, parse_mount
from services.engine.helpers import Helpers, ask, document
from services.engine.layers import LayerManager
from services.engine.scopes import shielded
from services.protocol import oci
from services.protocol.errors import InvalidParameter

_CACHE_MODE = 0o755
#: Of the context's top directory, as a step sees it.
_TOP_MODE = 0o755
#: A tmpfs of the user's is otherwise without both.
_TMPFS_OPTIONS = ("exec", "dev")


@dataclass(frozen=True)
class Surroundings:
    """What a RUN step may ask for. ``chain`` finds the layers of a stage or an image; ``held`` are the
    caches that the step has, by their keys."""

    helpers: Helpers
    layers: LayerManager
    registry: Registry
    caches: CacheMounts
    tmp: Path
    context: Path
    expand: Callable[[str], str]
    chain: Callable[[str], Awaitable[str]]
    held: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """``target`` is absolute; ``chain`` the layers of ``from``; ``found`` the source of a bind, None
    for the whole of an image."""

    mount: RunMount
    target: str
    chain: str = ""
    found: Found | None = None

    @property
    def counted(self) -> str:
        """What the cache tells steps apart by."""
        mount = self.mount
        source = [self.found.kind, self.found.checksum] if self.found else [self.chain, mount.source]
        rest = [mount.id, mount.sharing, mount.size, mount.readonly, mount.mode, mount.uid, mount.gid]
        return json.dumps([mount.type, self.target, source, rest])

    @property
    def cache_key(self) -> str:
        """Of a cache: its id, and what it begins as."""
        mount = self.mount
        name = mount.id or posixpath.normpath(mount.target)
        return json.dumps([name, self.chain, posixpath.normpath(mount.source) if self.chain else ""])

    @property
    def inside(self) -> str:
        """The path in the source's file system."""
        return self.found.path if self.found else "/"


async def plan(where: Surroundings, text: str, working_dir: str) -> Planned:
    """One ``--mount``. Raises :class:`BuildFailed` and ``InvalidParameter``."""
    mount = parse_mount(text, where.expand)
    if mount.type in ("secret", "ssh"):
        return Planned(mount, mount.target)
    target = clean(posixpath.join("/", working_dir, mount.target))
    if target.strip("/") == "":
        raise InvalidParameter(f'invalid mount target "{target}"')
    chain = await where.chain(mount.origin) if mount.origin and mount.type != "tmpfs" else ""
    if mount.type != "bind":
        return Planned(mount, target, chain)
    source = posixpath.normpath(posixpath.join("/", mount.source))
    if chain and source == "/":
        return Planned(mount, target, chain)
    root = where.layers.image_root(chain) if chain else RootSpec(directory=str(where.context))
    find = BuildFind(source=root, sources=[source], literal=True)
    try:
        (found,) = await ask(where.helpers, document("docker-buildfind", find), list[Found])
    except InvalidParameter as error:
        raise BuildFailed(f'failed to compute cache key: "{source}": not found') from error
    return Planned(mount, target, chain, found)


async def make(where: Surroundings, planned: Planned, stack: AsyncExitStack) -> ContainerMount | None:
    """The mount, held until *stack* ends; None where nothing is to be mounted."""
    mount = planned.mount
    if mount.type in ("secret", "ssh"):
        _refuse_required(mount)
        return None
    if mount.type == "tmpfs":
        options = [*_TMPFS_OPTIONS, *([f"size={mount.size}"] if mount.size else [])]
        if mount.readonly:
            options.append("ro")
        return ContainerMount(kind=MountKind.TMPFS, destination=planned.target, tmpfs_options=options)
    if mount.type == "cache":
        return await _cache(where, planned, stack)
    if planned.chain:
        return await _of_image(where, planned, stack)
    return await _of_context(where, planned, stack)


def _refuse_required(mount: RunMount) -> None:
    """A client of the classic API has no session that could give any."""
    if not mount.required:
        return
    if mount.type == "ssh":
        raise BuildFailed(f'no SSH key "{mount.id or "default"}" forwarded from the client')
    name = mount.source or mount.id or posixpath.basename(mount.target)
    raise BuildFailed(f"secret {name}: not found")


def _bind(planned: Planned, source: str, *, rw: bool, inside: oci.Mount | None = None) -> ContainerMount:
    return ContainerMount(
        kind=MountKind.BIND,
        destination=planned.target,
        source=source,
        rw=rw,
        propagation=DEFAULT_PROPAGATION,
        inside=inside,
    )


def _is_writable(planned: Planned) -> bool:
    return planned.mount.readonly is False


# Binds --------------------------------------------------------------------------------------------


async def _of_image(where: Surroundings, planned: Planned, stack: AsyncExitStack) -> ContainerMount:
    layers, writable = where.layers, _is_writable(planned)
    if writable:
        scratch = new_id()
        await layers.create(scratch, planned.chain, {})
        stack.push_async_callback(_shielded, layers.remove, scratch)
        root = layers.root(scratch)
    else:
        layers.chains.retain(planned.chain)
        stack.push_async_callback(_shielded, layers.release, planned.chain)
        root = layers.image_root(planned.chain)
    (whole,) = root.mounts
    return _bind(planned, planned.inside, rw=writable, inside=_oci(whole))


async def _shielded(release: Callable[[str], Awaitable[object]], name: str) -> None:
    await shielded(release(name))


def _oci(mount: MountSpec) -> oci.Mount:
    return oci.Mount(destination="/", type=mount.type, source=mount.source, options=mount.options)


async def _of_context(where: Surroundings, planned: Planned, stack: AsyncExitStack) -> ContainerMount:
    # What was found has no links on its way, and nobody changes a context while it is used.
    source = f"{where.context}{planned.inside}".rstrip("/")
    # Its top is nobody's but the engine's as it was made; a step's user may not be root.
    await asyncio.to_thread(os.chmod, where.context, _TOP_MODE)
    if not _is_writable(planned):
        return _bind(planned, source, rw=False)
    scratch = await stack.enter_async_context(context.scratch(where.tmp))
    if where.layers.driver_name != "overlay2":
        return _bind(planned, await _copied(where, planned, source, scratch / "copy"), rw=True)
    for name in ("upper", "work"):
        (scratch / name).mkdir(mode=0o755)
    options = [f"lowerdir={where.context}", f"upperdir={scratch}/upper", f"workdir={scratch}/work"]
    whole = oci.Mount(destination="/", type="overlay", source="overlay", options=options)
    return _bind(planned, planned.inside, rw=True, inside=whole)


async def _copied(where: Surroundings, planned: Planned, source: str, target: Path) -> str:
    if planned.found is not None and planned.found.kind != "dir":
        return str(await asyncio.to_thread(shutil.copy2, source, target))
    await asyncio.to_thread(target.mkdir)
    await where.helpers.run(["docker-copytree", source, str(target)])
    return str(target)


# Caches -------------------------------------------------------------------------------------------


async def _cache(where: Surroundings, planned: Planned, stack: AsyncExitStack) -> ContainerMount:
    mount, key = planned.mount, planned.cache_key
    part = posixpath.normpath(posixpath.join("/", mount.source))

    async def fill(directory: Path) -> None:
        if planned.chain:
            root = where.layers.image_root(planned.chain)
            await where.helpers.run(document("docker-copyup", CopyUp(root, part, str(directory))))
        elif part != "/":
            await asyncio.to_thread(os.makedirs, f"{directory}{part}")
        await asyncio.to_thread(_set_owner, f"{directory}{'' if planned.chain else part}", planned)

    if key not in where.held:
        description = f"mount {planned.target} from exec" + (f" with id {mount.id}" if mount.id else "")
        place = where.caches.hold(key, description, mount.sharing or "shared", fill)
        where.held[key] = await stack.enter_async_context(place)
    directory = where.held[key]
    writable = not mount.readonly
    if planned.chain or part == "/":
        return _bind(planned, str(directory), rw=writable)
    # Steps write to it: on the way to a part of it may be links.
    whole = oci.Mount(destination="/", type="bind", source=str(directory), options=["bind", "rw"])
    return _bind(planned, part, rw=writable, inside=whole)


def _set_owner(directory: str, planned: Planned) -> None:
    mount, state = planned.mount, os.stat(directory)
    uid = state.st_uid if mount.uid is None else mount.uid
    gid = state.st_gid if mount.gid is None else mount.gid
    os.chown(directory, uid, gid)
    if mount.mode is not None or not planned.chain:
        os.chmod(directory, _CACHE_MODE if mount.mode is None else mount.mode)
