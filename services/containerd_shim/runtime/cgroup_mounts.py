"""The container's view of its cgroups, mounted where the spec has a mount of type ``cgroup``.

On cgroup v1 (also hybrid) that is a tmpfs with one directory per hierarchy, each showing the
container's own directory; on v2 it is the unified hierarchy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.mounts import MountPlan

_ATTRIBUTES = sc.MOUNT_ATTR_NOEXEC | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV


@dataclass
class CgroupView:
    """``hierarchies`` are (controllers, detached mount of the container's directory) pairs.

    With a cgroup namespace that directory is the root the container sees, just as in a fresh mount.
    """

    version: int
    hierarchies: list[tuple[str, int]] = field(default_factory=list)


def clone(directories: list[tuple[str, str]]) -> list[tuple[str, int]]:
    """Detached mounts of the container's directories."""
    return [
        (controllers, sc.open_tree(sc.AT_FDCWD, path, sc.OPEN_TREE_CLONE))
        for controllers, path in directories
    ]


def mount(view: CgroupView, target: int, plan: MountPlan) -> None:
    """Mount the view on the directory *target*; read-only where the plan says so."""
    attributes = _ATTRIBUTES | (plan.attributes & sc.MOUNT_ATTR_RDONLY)
    if view.version == 2:
        _controllers, directory = view.hierarchies[0]
        _attach(directory, target, attributes)
        return
    top = sc.new_mount("tmpfs", "tmpfs", ["mode=755"], _ATTRIBUTES)
    try:
        sc.move_mount(top, target)
        for controllers, directory in view.hierarchies:
            name = controllers.removeprefix("name=")
            os.mkdir(name, 0o755, dir_fd=top)
            inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            _attach(directory, inner, attributes)
            os.close(inner)
            for alias in name.split(","):
                if alias != name:
                    os.symlink(name, alias, dir_fd=top)
        if attributes & sc.MOUNT_ATTR_RDONLY:
            sc.mount_setattr(top, attr_set=sc.MOUNT_ATTR_RDONLY, recursive=False)
    finally:
        os.close(top)


def _attach(directory: int, target: int, attributes: int) -> None:
    sc.mount_setattr(directory, attr_set=attributes, recursive=False)
    sc.move_mount(directory, target)
