"""The container's view of its cgroups, mounted where the spec has a mount of type ``cgroup``.

On cgroup v1 (also hybrid) that is a tmpfs with one directory per hierarchy, each showing the
container's own directory; on v2 it is the unified hierarchy.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.mounts import MountPlan

_ATTRIBUTES = sc.MOUNT_ATTR_NOEXEC | sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV


@dataclass
class CgroupView:
    """``hierarchies`` are (controllers, detached mount of the container's directory) pairs.

    ``namespace`` says that the container has a cgroup namespace of its own: then the hierarchies are
    mounted afresh, and their roots are the container's directories.
    """

    version: int
    namespace: bool
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
        _mount_v2(view, target, plan, attributes)
        return
    top = sc.new_mount("tmpfs", "tmpfs", ["mode=755"], _ATTRIBUTES)
    try:
        sc.move_mount(top, target)
        for controllers, directory in view.hierarchies:
            name = controllers.removeprefix("name=")
            os.mkdir(name, 0o755, dir_fd=top)
            _mount_v1(view, top, name, controllers, directory, attributes)
            for alias in name.split(","):
                if alias != name:
                    os.symlink(name, alias, dir_fd=top)
        if attributes & sc.MOUNT_ATTR_RDONLY:
            sc.mount_setattr(top, attr_set=sc.MOUNT_ATTR_RDONLY, recursive=False)
    finally:
        os.close(top)


def _mount_v1(
    view: CgroupView, top: int, name: str, controllers: str, directory: int, attributes: int
) -> None:
    inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        if view.namespace:
            options = ["none", controllers] if controllers.startswith("name=") else controllers.split(",")
            directory = sc.new_mount("cgroup", "cgroup", options, attributes)
        else:
            sc.mount_setattr(directory, attr_set=attributes, recursive=False)
        sc.move_mount(directory, inner)
    finally:
        os.close(inner)


def _mount_v2(view: CgroupView, target: int, plan: MountPlan, attributes: int) -> None:
    if view.namespace:
        try:
            sc.move_mount(sc.new_mount("cgroup2", "cgroup", plan.data, attributes), target)
            return
        except OSError as error:
            # A user namespace may not mount it afresh, and another mount may hold it busy.
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
    _controllers, directory = view.hierarchies[0]
    sc.mount_setattr(directory, attr_set=attributes, recursive=False)
    sc.move_mount(directory, target)
