"""What the file system below a graph driver can do, tried out on it."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path

from reexec.archive import syscalls

#: ``f_type`` (linux/magic.h) -> dockerd's name (moby ``daemon/internal/fstype``).
_NAMES = {
    0x61756673: "aufs",
    0x9123683E: "btrfs",
    0x28CD3D45: "cramfs",
    0xF15F: "ecryptfs",
    0xEF53: "extfs",
    0xF2F52010: "f2fs",
    0x65735546: "fuse",
    0x6969: "nfs",
    0x794C7630: "overlayfs",
    0x858458F6: "ramfs",
    0x52654973: "reiserfs",
    0x517B: "smb",
    0x73717368: "squashfs",
    0x01021994: "tmpfs",
    0x58465342: "xfs",
    0x2FC12FC1: "zfs",
}
_DT_DIR = 4
#: Where ``d_type`` is in ``struct dirent`` (64-bit Linux): behind d_ino, d_off and d_reclen.
_D_TYPE = 18


def backing_filesystem(path: Path) -> str:
    """The file system of *path* as dockerd names it ("extfs" for ext2/3/4)."""
    return _NAMES.get(syscalls.filesystem_type(str(path)) & 0xFFFFFFFF, "<unknown>")


def supports_d_type(path: Path) -> bool:
    """Whether readdir(3) tells what is a directory, which overlayfs needs (XFS can be without)."""
    trial = Path(tempfile.mkdtemp(prefix=".d-type-", dir=path))
    try:
        (trial / "d").mkdir()
        return _types(trial)["d"] == _DT_DIR
    finally:
        shutil.rmtree(trial)


def _types(path: Path) -> dict[str, int]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(libc.opendir(os.fsencode(path)))
    if not stream:
        raise OSError(ctypes.get_errno(), "opendir", str(path))
    found = {}
    try:
        while entry := libc.readdir(stream):
            name = ctypes.string_at(entry + _D_TYPE + 1)
            found[os.fsdecode(name)] = ctypes.string_at(entry + _D_TYPE, 1)[0]
    finally:
        libc.closedir(stream)
    return found


def try_overlay(path: Path) -> None:
    """Make an overlay of directories below *path*, mounted nowhere; raises ``OSError``."""
    trial = Path(tempfile.mkdtemp(prefix=".overlay-", dir=path))
    try:
        for name in ("lower1", "lower2", "upper", "work"):
            (trial / name).mkdir()
        options = {
            "lowerdir": f"{trial}/lower2:{trial}/lower1",
            "upperdir": f"{trial}/upper",
            "workdir": f"{trial}/work",
        }
        syscalls.try_filesystem("overlay", options)
        # Without them a directory cannot be marked opaque.
        os.setxattr(trial / "upper", "trusted.overlay.opaque", b"y")
    finally:
        shutil.rmtree(trial)
