"""Building a container's root, in its own mount namespace, and moving into it.

Order (as runc's ``rootfs_linux.go``): host mounts are made slaves, the layers and bind sources are
taken from the host (:func:`stage_host`), the user namespace is entered where there is one, then the
spec's mounts, devices, links, console, read-only and masked paths are made on the root, which is
still a directory somewhere (:func:`build`), and last it becomes "/" (:func:`enter`).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from services.containerd_shim.runtime import cgroup_mounts, devices, inroot, layers
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.failures import StartError
from services.containerd_shim.runtime.layers import Layer
from services.containerd_shim.runtime.mounting import Mounting, clone_sources, mount_all
from services.containerd_shim.runtime.mounts import PROPAGATION, MountPlan
from services.protocol import oci


@dataclass
class RootPlan:
    """What the parent has computed. ``path`` is the root directory on the host, absolute; ``wholes``,
    by index, the file systems that mounts are parts of."""

    path: str
    bundle: str
    readonly: bool
    propagation: str
    layers: list[Layer]
    mounts: list[MountPlan]
    wholes: dict[int, Layer]
    devices: list[oci.Device]
    masked: list[str]
    readonly_paths: list[str]
    cgroup_directories: list[tuple[str, str]]
    cgroup_version: int
    user_namespace: bool
    cwd: str

    @property
    def makes_dev(self) -> bool:
        """False when the container brings a ``/dev`` of its own (runc: needsSetupDev)."""
        return not any(plan.bind and os.path.normpath(plan.destination) == "/dev" for plan in self.mounts)


@dataclass
class Staged:
    """What was taken from the host's mounts: the bind sources and the container's cgroups."""

    clones: dict[int, int] = field(default_factory=dict)
    cgroups: list[tuple[str, int]] = field(default_factory=list)


def stage_host(plan: RootPlan) -> Staged:
    """In the new mount namespace, with the host's view: leaves the root directory as the cwd."""
    flag, recursive = PROPAGATION.get(plan.propagation, (sc.MS_SLAVE, True))
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sc.mount_setattr(root, propagation=flag, recursive=recursive)
    os.close(root)
    if flag == sc.MS_SHARED:
        layers.make_parent_private(plan.path)
    staged = Staged(clone_sources(plan.mounts, plan.wholes, plan.bundle, plan.path))
    if any(mount.type.startswith("cgroup") for mount in plan.mounts):
        staged.cgroups = cgroup_mounts.clone(plan.cgroup_directories)
    for layer in plan.layers:
        layers.mount(layer, plan.path)
    try:
        os.chdir(plan.path)
    except OSError as error:
        raise StartError(
            f"error preparing rootfs: stat {plan.path}: {(error.strerror or '').lower()}"
        ) from error
    return staged


def open_root(plan: RootPlan) -> int:
    """The root as a mount of its own; the cwd is the root directory.

    A layered root is one already, except in a user namespace, where an inherited mount is locked.
    """
    if plan.layers and not plan.user_namespace:
        return os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    clone = sc.open_tree(sc.AT_FDCWD, ".", sc.OPEN_TREE_CLONE | sc.AT_RECURSIVE)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sc.move_mount(clone, here)
    os.close(here)
    os.fchdir(clone)
    return clone


def build(plan: RootPlan, staged: Staged, root: int) -> Mounting:
    """Mounts, devices and links; the caller goes on with console and :func:`restrict`."""
    view = cgroup_mounts.CgroupView(plan.cgroup_version, staged.cgroups)
    mounting = Mounting(root, view)
    mount_all(mounting, plan.mounts, staged.clones)
    for _controllers, fd in staged.cgroups:
        os.close(fd)
    if plan.makes_dev:
        devices.make_all(root, plan.devices, bind=plan.user_namespace)
        devices.make_links(root)
    return mounting


def restrict(plan: RootPlan, mounting: Mounting) -> None:
    """The working directory, then everything that becomes read-only or hidden."""
    try:
        os.close(inroot.make_dir(mounting.root, plan.cwd))
    except OSError as error:
        raise StartError(f"mkdir {plan.cwd}: {(error.strerror or '').lower()}") from error
    mounting.finish()
    for path in plan.readonly_paths:
        _read_only(mounting.root, path)
    for path in plan.masked:
        _mask(mounting.root, path)
    if plan.readonly:
        sc.mount_setattr(mounting.root, attr_set=sc.MOUNT_ATTR_RDONLY, recursive=False)


def _read_only(root: int, path: str) -> None:
    try:
        target = inroot.open_in(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return
    clone = sc.open_tree(target, "", sc.OPEN_TREE_CLONE | sc.AT_EMPTY_PATH | sc.AT_RECURSIVE)
    sc.mount_setattr(clone, attr_set=sc.MOUNT_ATTR_RDONLY, recursive=False)
    sc.move_mount(clone, target)
    os.close(clone)
    os.close(target)


def _mask(root: int, path: str) -> None:
    """An empty read-only directory over a directory, ``/dev/null`` of the host over anything else."""
    try:
        target = inroot.open_in(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(os.fstat(target).st_mode):
        cover = sc.new_mount("tmpfs", "tmpfs", ["nr_blocks=1", "nr_inodes=1", "ro"], sc.MOUNT_ATTR_RDONLY)
    else:
        cover = sc.open_tree(sc.AT_FDCWD, "/dev/null", sc.OPEN_TREE_CLONE)
    sc.move_mount(cover, target)
    os.close(cover)
    os.close(target)


def enter(plan: RootPlan, root: int) -> None:
    """pivot_root(2) without a directory for the old root: it is stacked under the new and detached."""
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    sc.pivot_root(".", ".")
    # The old root is on top now; its mounts must not take those of the host down with them.
    os.fchdir(old)
    sc.mount_setattr(old, propagation=sc.MS_SLAVE, recursive=True)
    sc.umount(".", sc.MNT_DETACH)
    os.close(old)
    os.chdir("/")
    if plan.propagation:
        flag, recursive = PROPAGATION[plan.propagation]
        sc.mount_setattr(root, propagation=flag, recursive=recursive)
    os.close(root)
