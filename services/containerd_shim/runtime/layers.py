"""The file systems a container's root consists of, mounted where the bundle has its root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reexec.archive import fuse
from reexec.helpers import mountfrom
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.failures import StartError
from services.containerd_shim.runtime.mounts import MountPlan, attributes_of, parse
from services.protocol import oci
from services.protocol.errors import InvalidParameter

#: mount(2) takes one page of options, the last byte of which is the terminator.
_PAGE = os.sysconf("SC_PAGESIZE") - 1


@dataclass(frozen=True)
class Layer:
    """``target`` is relative to the root; ``data`` the file system's options.

    ``made`` is the mount itself where it cannot be made in the container's namespaces, else -1.
    """

    type: str
    source: str
    target: str
    flags: int
    data: str
    made: int = -1


def plan(kind: str, source: str, target: str, options: Sequence[str]) -> Layer:
    """A mount of the create request; overlay's ``lowerdir`` may hold commas only if escaped."""
    parsed = parse(oci.Mount(destination=target or "/", type=kind, source=source, options=list(options)))
    flags = parsed.flags
    if parsed.bind:
        flags |= sc.MS_BIND | (sc.MS_REC if parsed.recursive else 0)
    return Layer(kind, source, target.lstrip("/"), flags, ",".join(parsed.data))


def whole(part: MountPlan) -> Layer:
    """The file system that a mount with ``subdir`` is a part of."""
    flags = part.flags & sc.MS_RDONLY | (sc.MS_BIND if part.bind else 0)
    return Layer(part.type, part.source, "", flags, ",".join(part.data))


@contextlib.contextmanager
def served(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """*layers* for a child that is forked in the block.

    A file system that a program serves is made on this side, where the program is no process of the
    container. It ends with the container's mount namespace. Raises StartError.
    """
    with contextlib.ExitStack() as stack:
        ready = []
        for layer in layers:
            if layer.type == fuse.TYPE:
                layer = replace(layer, made=_serve(layer))
                stack.callback(os.close, layer.made)
            ready.append(layer)
        yield ready


def _serve(layer: Layer) -> int:
    options = layer.data.split(",")
    if layer.flags & sc.MS_RDONLY:
        options.append("ro")
    try:
        return fuse.mount(options)
    except OSError as error:
        reason = f"{error.filename}: {(error.strerror or '').lower()}"
        raise StartError(f"error mounting {layer.type}: {reason}") from error


def mount(layer: Layer, root: str) -> None:
    """Mount *layer* on *root*; raises StartError."""
    target = f"{root}/{layer.target}" if layer.target else root
    try:
        if layer.made >= 0:
            _attach(layer.made, target)
        elif len(os.fsencode(layer.data)) > _PAGE:
            _mount_long(layer, target)
        elif layer.flags & sc.MS_BIND:
            _bind(layer, target)
        else:
            sc.mount(layer.source, target, layer.type, layer.flags, layer.data)
    except OSError as error:
        raise StartError(
            f"error mounting {layer.type} rootfs at {target}: {(error.strerror or str(error)).lower()}"
        ) from error


def _mount_long(layer: Layer, target: str) -> None:
    """Options beyond a page: with paths relative to a directory, as ``docker-mountfrom`` does it; where
    that is not enough, one option per layer (``lowerdir+``, Linux 6.5)."""
    options = layer.data.split(",")
    try:
        directory, relative = mountfrom.compact(options)
    except InvalidParameter:
        _mount_one_by_one(layer, target, options)
        return
    mountfrom.mount_from(directory, layer.source, target, layer.type, layer.flags, ",".join(relative))
    os.chdir("/")


def _mount_one_by_one(layer: Layer, target: str, options: Sequence[str]) -> None:
    single: list[str] = []
    for option in options:
        key, _, value = option.partition("=")
        single += [f"lowerdir+={path}" for path in value.split(":")] if key == "lowerdir" else [option]
    _attach(sc.new_mount(layer.type, layer.source, single, attributes_of(layer.flags)), target)


def _attach(made: int, target: str) -> None:
    point = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sc.move_mount(made, point)
    os.close(point)
    os.close(made)


def _bind(layer: Layer, target: str) -> None:
    sc.mount(layer.source, target, None, layer.flags & (sc.MS_BIND | sc.MS_REC), "")
    rest = layer.flags & ~(sc.MS_BIND | sc.MS_REC)
    if rest:
        sc.mount("", target, None, rest | sc.MS_BIND | sc.MS_REMOUNT, "")


def make_parent_private(path: str) -> None:
    """Keep mounts below *path* from reaching the host, and pivot_root(2) possible, while "/" is shared."""
    best = "/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].replace("\\040", " ")
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best = point
    sc.mount("", best, None, sc.MS_PRIVATE, "")
