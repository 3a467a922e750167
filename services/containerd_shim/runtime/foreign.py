"""Mounts of another container, taken over as detached mounts (a shared ``/dev/shm``).

The kernel clones a mount only from inside the mount namespace it belongs to (``open_tree(2)``), so a
source ``/proc/<pid>/root/<path>`` is looked up after entering that namespace. The path is resolved
inside the other container's root: its symlinks cannot lead to the host.
"""

from __future__ import annotations

import os
import re

from services.containerd_shim.runtime import syscall as sc

_SOURCE = re.compile(r"/proc/(\d+)/root(/.*)\Z", re.ASCII)


def is_foreign(source: str) -> bool:
    return _SOURCE.match(source) is not None


def clone(source: str, flags: int) -> int:
    """The detached mount of a foreign *source*; raises ``OSError``.

    The caller is alone in its process; its working directory becomes "/".
    """
    match = _SOURCE.match(source)
    assert match is not None
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        theirs = os.open(f"/proc/{match[1]}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            sc.setns(theirs, sc.CLONE_NEWNS)
        finally:
            os.close(theirs)
        try:
            return sc.open_tree(sc.AT_FDCWD, match[2], flags)
        finally:
            sc.setns(own, sc.CLONE_NEWNS)
    finally:
        os.close(own)
