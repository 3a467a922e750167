"""Making the mounts of a spec on a root that is not pivoted to yet.

Bind sources are host paths: :func:`clone_sources` turns them into detached mounts first, with the
host's privileges, also when the container gets a user namespace. Targets are found inside the root
by :mod:`inroot` and mounted on through descriptors, so that no path is resolved twice.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.containerd_shim.runtime import cgroup_mounts, copyup, foreign, inroot, layers
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.failures import StartError
from services.containerd_shim.runtime.mounts import MountPlan
from services.protocol.errors import WharfError

#: Files of procfs that may be replaced by a mount (lxcfs); nothing else inside /proc may (runc).
_PROC_FILES = """
cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo net/dev sys/kernel/ns_last_pid
sys/crypto/fips_enabled
"""
_PROC_ALLOWED = frozenset(f"/proc/{name}" for name in _PROC_FILES.split())
_KERNEL_TYPES = frozenset({"proc", "sysfs"})


@dataclass
class Mounting:
    """Mounts being made on ``root``; ``later`` are those to become read-only at the end."""

    root: int
    cgroups: cgroup_mounts.CgroupView
    later: list[int] = field(default_factory=list)
    proc_device: int | None = None

    def finish(self) -> None:
        """Make read-only what had to be filled first."""
        for fd in self.later:
            sc.mount_setattr(fd, attr_set=sc.MOUNT_ATTR_RDONLY, recursive=False)
            os.close(fd)
        self.later.clear()


def clone_sources(
    plans: list[MountPlan], wholes: Mapping[int, layers.Layer], bundle: str, point: str
) -> dict[int, int]:
    """A detached mount per bind mount, by the plan's index; raises StartError with runc's text.

    Part of a file system is taken by mounting the whole of it (*wholes*, by the plan's index) for a
    moment on *point*, a directory.
    """
    clones: dict[int, int] = {}
    for index, plan in enumerate(plans):
        if index in wholes:
            clones[index] = _clone_part(plan, wholes[index], point)
            plan.bind = True
            continue
        if not plan.bind:
            continue
        source = plan.source if plan.source.startswith("/") else f"{bundle}/{plan.source}"
        flags = sc.OPEN_TREE_CLONE | (sc.AT_RECURSIVE if plan.recursive else 0)
        try:
            clones[index] = (
                foreign.clone(source, flags)
                if foreign.is_foreign(source)
                else sc.open_tree(sc.AT_FDCWD, source, flags)
            )
        except OSError as error:
            raise _failed(plan, error) from error
    return clones


def _clone_part(plan: MountPlan, whole: layers.Layer, point: str) -> int:
    """``subdir`` is resolved inside the file system, whatever links it goes through."""
    layers.mount(whole, point)
    try:
        top = os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            part = inroot.open_in(top, plan.subdir)
        finally:
            os.close(top)
        try:
            return sc.open_tree(part, "", sc.OPEN_TREE_CLONE | sc.AT_EMPTY_PATH)
        finally:
            os.close(part)
    except OSError as error:
        raise _failed(plan, error) from error
    finally:
        sc.umount(point, sc.MNT_DETACH)


def mount_all(mounting: Mounting, plans: list[MountPlan], clones: dict[int, int]) -> None:
    """In the order of the spec; closes the clones as they are used."""
    for index, plan in enumerate(plans):
        try:
            _check_whole_proc(plan)
            if plan.bind:
                _bind(mounting, plan, clones.pop(index))
            elif plan.type in ("cgroup", "cgroup2"):
                target = inroot.make_dir(mounting.root, plan.destination)
                cgroup_mounts.mount(mounting.cgroups, target, plan)
                os.close(target)
            else:
                _filesystem(mounting, plan)
        except WharfError as error:
            raise StartError(
                f'error mounting "{plan.source}" to rootfs at "{plan.destination}": {error}'
            ) from error
        except OSError as error:
            raise _failed(plan, error) from error


def _check_whole_proc(plan: MountPlan) -> None:
    """In place of /proc itself there may be procfs, or the host's."""
    if os.path.normpath(plan.destination) != "/proc" or plan.type == "proc":
        return
    if not plan.bind or os.stat(plan.source).st_dev != os.stat("/proc").st_dev:
        raise StartError(f'"{plan.destination}" cannot be mounted because it is not of type proc')


def _failed(plan: MountPlan, error: OSError) -> StartError:
    reason = (error.strerror or str(error)).lower()
    what = f"mount src={plan.source}, dst={plan.destination}"
    return StartError(f'error mounting "{plan.source}" to rootfs at "{plan.destination}": {what}: {reason}')


def _bind(mounting: Mounting, plan: MountPlan, clone: int) -> None:
    is_dir = stat.S_ISDIR(os.fstat(clone).st_mode)
    target = (inroot.make_dir if is_dir else inroot.make_file)(mounting.root, plan.destination)
    try:
        _check_root(mounting, plan, target)
        _check_proc(mounting, plan, target)
        if not is_dir and stat.S_ISDIR(os.fstat(target).st_mode):
            # move_mount(2) says EINVAL; users know mount(2)'s word for it.
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        attributes = plan.attributes
        if attributes:
            clear = sc.MOUNT_ATTR__ATIME if attributes & sc.MOUNT_ATTR__ATIME else 0
            sc.mount_setattr(clone, attr_set=attributes, attr_clr=clear, recursive=False)
        if plan.recursive_set or plan.recursive_clear:
            sc.mount_setattr(
                clone, attr_set=plan.recursive_set, attr_clr=plan.recursive_clear, recursive=True
            )
        sc.move_mount(clone, target)
        _propagate(clone, plan)
    finally:
        os.close(target)
        os.close(clone)


def _propagate(fd: int, plan: MountPlan) -> None:
    for flag, recursive in plan.propagation:
        sc.mount_setattr(fd, propagation=flag, recursive=recursive)


def _check_proc(mounting: Mounting, plan: MountPlan, target: int) -> None:
    """A mount over procfs could forge what the runtime and LSMs read there (CVE-2019-16884)."""
    if mounting.proc_device is None or os.fstat(target).st_dev != mounting.proc_device:
        return
    if os.path.normpath(plan.destination) not in _PROC_ALLOWED:
        raise StartError(
            f'check proc-safety of {plan.destination} mount: "{plan.destination}" cannot be mounted '
            "because it is inside /proc"
        )


def _check_root(mounting: Mounting, plan: MountPlan, target: int) -> None:
    """What hides the root hides everything that the container was given in it."""
    if os.path.samestat(os.fstat(target), os.fstat(mounting.root)):
        where = plan.destination
        raise StartError(f'create mountpoint for {where} mount: mountpoint "{where}" is on the top of rootfs')


def _filesystem(mounting: Mounting, plan: MountPlan) -> None:
    options = plan.superblock_options
    if plan.type in _KERNEL_TYPES:
        target = _ordinary_dir(mounting.root, plan)
    else:
        if plan.type == "tmpfs":
            # As runc does: the mount takes the mode of the directory it covers, unless one is given.
            options = _mode_of_existing(mounting.root, plan.destination) + options
        target = inroot.make_dir(mounting.root, plan.destination)
    attributes = plan.attributes
    deferred = bool(attributes & sc.MOUNT_ATTR_RDONLY) and (
        plan.type == "tmpfs" or plan.destination == "/dev"
    )
    if deferred:
        attributes &= ~sc.MOUNT_ATTR_RDONLY
        options = [option for option in options if option != "ro"]
    try:
        _check_root(mounting, plan, target)
        _check_proc(mounting, plan, target)
        made = sc.new_mount(plan.type, plan.source or plan.type, options, attributes)
        sc.move_mount(made, target)
        if plan.copy_up:
            copyup.copy(target, made)
    finally:
        os.close(target)
    if plan.type == "proc":
        mounting.proc_device = os.fstat(made).st_dev
    _propagate(made, plan)
    if deferred:
        mounting.later.append(made)
    else:
        os.close(made)


def _ordinary_dir(root: int, plan: MountPlan) -> int:
    """The target of proc or sysfs: no symlink on the way may lead them elsewhere (CVE-2023-27561)."""
    os.close(inroot.make_dir(root, plan.destination))
    try:
        return sc.openat2(
            root,
            plan.destination,
            os.O_PATH | os.O_DIRECTORY,
            sc.RESOLVE_IN_ROOT | sc.RESOLVE_NO_SYMLINKS,
        )
    except OSError as error:
        raise StartError(
            f'filesystem "{plan.type}" must be mounted on ordinary directory ({plan.destination})'
        ) from error


def _mode_of_existing(root: int, path: str) -> list[str]:
    try:
        fd = inroot.open_in(root, path)
    except OSError:
        return []
    try:
        return [f"mode={stat.S_IMODE(os.fstat(fd).st_mode):04o}"]
    finally:
        os.close(fd)
