"""Where the storage helpers work: a mount namespace of their own, and a root to be confined in."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

import msgspec

from reexec.archive import fuse, syscalls
from reexec.helpers import mountfrom
from services.protocol.errors import Conflict, InvalidParameter


class MountSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A mount as in the OCI runtime specification; ``target`` is inside the root ("/": the root)."""

    type: str
    source: str
    target: str = "/"
    options: list[str] = []


class RootSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A root file system: ``mounts`` assembled on ``directory``, else ``directory`` itself, else
    that of process ``pid``. With ``own_mount_only`` what is mounted inside it is not seen, but what is
    mounted at one of ``keep``, outer ones first. ``writable`` stands for a read-only first of ``mounts``
    when a target of the others has to be made."""

    directory: str = ""
    mounts: list[MountSpec] = []
    writable: MountSpec | None = None
    pid: int = 0
    own_mount_only: bool = False
    keep: list[str] = []


def isolate() -> None:
    """A private mount namespace: nothing mounted from here on is seen by anybody else."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)


def gone(pid: int) -> str:
    """Text of the error of a root whose process has ended: nothing has been done then."""
    return f"process {pid} has ended"


class Reached(NamedTuple):
    """Descriptors of a process's root and mount namespace: with them its end is no obstacle."""

    root: int
    namespace: int


def reach(spec: RootSpec) -> Reached | None:
    """All that :func:`enter` needs of *spec*'s process; None if it has none.

    Raises ``Conflict`` with the text of :func:`gone`: who asks may ask again for another root.
    """
    if not spec.pid:
        return None
    root = -1
    try:
        root = os.open(f"/proc/{spec.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return Reached(root, os.open(f"/proc/{spec.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
    except (FileNotFoundError, ProcessLookupError, PermissionError) as error:
        if root >= 0:
            os.close(root)
        # A link of a process that is reaped just as it is followed is denied (proc_pid_get_link in
        # fs/proc/base.c, proc_ns_get_link in fs/proc/namespaces.c).
        if isinstance(error, PermissionError) and os.path.exists(f"/proc/{spec.pid}"):
            raise
        raise Conflict(gone(spec.pid)) from None


def assembled(spec: RootSpec) -> int:
    """A descriptor of the root of *spec*, mounted where only this process sees it, on a directory that is
    free again for the next."""
    if spec.mounts:
        _assemble(spec)
    return os.open(spec.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def enter(spec: RootSpec, reached: Reached | None = None) -> None:
    """Make the root of *spec* this process's root; there is no way back. Raises ``OSError``."""
    if there := reached or reach(spec):
        _enter_process(spec, there)
    elif spec.directory:
        if spec.mounts:
            _assemble(spec)
        os.chroot(spec.directory)
    else:
        raise InvalidParameter("a root needs a directory or a process")
    os.chdir("/")


def _assemble(spec: RootSpec) -> None:
    # Served from outside of the namespace that has the mount (see ``fuse``).
    served = {n: fuse.mount(m.options) for n, m in enumerate(spec.mounts) if m.type == fuse.TYPE}
    isolate()
    try:
        for number, item in enumerate(spec.mounts):
            _mount(spec.directory, item, served.get(number))
    except OSError as error:
        if error.errno != errno.EROFS or spec.writable is None:
            raise
        for item in (spec.writable, *spec.mounts[1:]):
            _mount(spec.directory, item, None)


def _mount(root: str, item: MountSpec, made: int | None) -> None:
    if made is not None:
        point = os.open(_inside(root, item.target), os.O_PATH | os.O_CLOEXEC)
        syscalls.move_mount(made, point)
        os.close(point)
        os.close(made)
        return
    if item.target == "/":
        mountfrom.mount(item.type, item.source, root, item.options)
        return
    is_file = not {"bind", "rbind"}.isdisjoint(item.options) and not os.path.isdir(item.source)
    target = _inside(root, item.target, is_file=is_file)
    mountfrom.mount(item.type, item.source, target, item.options, lambda: _inside(root, item.target))


def _inside(root: str, target: str, *, is_file: bool = False) -> str:
    """*target* resolved with *root* as the root directory, by a descriptor nobody can swap.

    A missing target is made, as the runtime does: an empty file to mount a file on, else a directory. The
    path returned stays valid for this process.
    """
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chroot(root)
        try:
            if not os.path.exists(target):
                os.makedirs(os.path.dirname(target) if is_file else target, exist_ok=is_file)
                if is_file:
                    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            fd = os.open(target, os.O_PATH | os.O_CLOEXEC)
        finally:
            os.fchdir(here)
            os.chroot(".")
    finally:
        os.close(here)
    return f"/proc/self/fd/{fd}"


def _enter_process(spec: RootSpec, reached: Reached) -> None:
    if not spec.own_mount_only:
        os.fchdir(reached.root)
        os.chroot(".")
        for fd in reached:
            os.close(fd)
        return
    # A clone of the root's mount alone lacks what is mounted on it: volumes, /dev, /etc/hosts.
    # It can only be made from inside the mount namespace it belongs to.
    isolate()
    ours = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(reached.namespace, syscalls.CLONE_NEWNS)
    os.fchdir(reached.root)
    os.chroot(".")
    tree = syscalls.open_tree(".", syscalls.OPEN_TREE_CLONE)
    kept = [(target, fd) for target in spec.keep if (fd := _clone(target)) >= 0]
    if kept:
        # Only what is attached somewhere can have something mounted on it.
        syscalls.setns(ours, syscalls.CLONE_NEWNS)
        top = os.open("/", os.O_PATH | os.O_CLOEXEC)
        syscalls.move_mount(tree, top)
        os.close(top)
    os.fchdir(tree)
    os.chroot(".")
    for target, fd in kept:
        at = os.open(target, os.O_PATH | os.O_CLOEXEC)
        syscalls.move_mount(fd, at)
        os.close(at)
        os.close(fd)
    for fd in (*reached, ours, tree):
        os.close(fd)


def _clone(target: str) -> int:
    """A copy of what is mounted at *target* and below; -1 if that is gone."""
    try:
        return syscalls.open_tree(target, syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE)
    except (FileNotFoundError, NotADirectoryError):
        return -1
