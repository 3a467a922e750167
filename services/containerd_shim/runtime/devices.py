"""Device nodes and the symlinks of ``/dev``."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from services.containerd_shim.runtime import inroot
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.failures import StartError
from services.protocol import oci

#: OCI runtime specification, "Default Devices".
DEFAULT = [
    oci.Device(path=f"/dev/{name}", type="c", major=major, minor=minor, file_mode=0o666)
    for name, major, minor in (
        ("null", 1, 3),
        ("random", 1, 8),
        ("full", 1, 7),
        ("tty", 5, 0),
        ("zero", 1, 5),
        ("urandom", 1, 9),
    )
]
_TYPES = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "u": stat.S_IFCHR, "p": stat.S_IFIFO}
_LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/ptmx": "pts/ptmx",
}


def with_defaults(devices: Sequence[oci.Device]) -> list[oci.Device]:
    """The default devices, replaced by those of the spec that have the same path."""
    return list({device.path: device for device in [*DEFAULT, *devices]}.values())


def make_all(root: int, devices: Sequence[oci.Device], *, bind: bool) -> None:
    """Make the nodes below *root*. *bind* mounts the host's, for user namespaces cannot make any."""
    mask = os.umask(0)
    try:
        for device in devices:
            try:
                _make_bound(root, device) if bind else _make(root, device)
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise StartError(f'error creating device nodes: mknod "{device.path}": {reason}') from error
    finally:
        os.umask(mask)


def _make(root: int, device: oci.Device) -> None:
    if device.type not in _TYPES:
        raise StartError(f"unknown device type {device.type!r} of {device.path}")
    parent, name = inroot.parent_of(root, device.path)
    try:
        mode = _TYPES[device.type] | (0o666 if device.file_mode is None else device.file_mode & 0o7777)
        number = os.makedev(device.major, device.minor)
        try:
            os.mknod(name, mode, number, dir_fd=parent)
        except FileExistsError:
            existing = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if (existing.st_rdev, stat.S_IFMT(existing.st_mode)) != (number, stat.S_IFMT(mode)):
                raise
        os.chown(name, device.uid or 0, device.gid or 0, dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(parent)


def _make_bound(root: int, device: oci.Device) -> None:
    target = inroot.make_file(root, device.path)
    try:
        clone = sc.open_tree(sc.AT_FDCWD, device.path, sc.OPEN_TREE_CLONE)
        try:
            sc.move_mount(clone, target)
        finally:
            os.close(clone)
    finally:
        os.close(target)


def make_links(root: int) -> None:
    """The symlinks programs expect; those that exist are kept, but ``/dev/ptmx`` is always ours."""
    links = dict(_LINKS)
    if os.path.exists("/proc/kcore"):
        links["/dev/core"] = "/proc/kcore"
    for path, target in links.items():
        parent, name = inroot.parent_of(root, path)
        try:
            if name == "ptmx":
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=parent)
            with contextlib.suppress(FileExistsError):
                os.symlink(target, name, dir_fd=parent)
        finally:
            os.close(parent)
