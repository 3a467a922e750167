"""Keeping the interpreter out of a container's reach (CVE-2019-5736).

A process that enters a container can be made to reveal ``/proc/<pid>/exe``, through which a container
with the host's root could overwrite the interpreter for everybody. The zygote therefore runs from a
read-only, detached mount of it: whatever path leads to that executable refuses to be written, and
there is nothing to copy, so that memory stays shared with the other services.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from services.containerd_shim.runtime import syscall as sc


def read_only_interpreter() -> int:
    """A descriptor of this interpreter's executable on a read-only mount; close-on-exec.

    Needs CAP_SYS_ADMIN. Raises OSError.
    """
    path = os.path.realpath(sys.executable)
    mount = sc.open_tree(sc.AT_FDCWD, path, sc.OPEN_TREE_CLONE)
    try:
        sc.mount_setattr(mount, attr_set=sc.MOUNT_ATTR_RDONLY, recursive=False)
        return os.open(f"/proc/self/fd/{mount}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(mount)


def exec_read_only(argv: Sequence[str], env: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by the interpreter with *argv*, whose first element should be
    ``sys.executable``: Python finds its virtual environment by it."""
    os.execve(read_only_interpreter(), list(argv), dict(os.environ if env is None else env))


def is_read_only() -> bool:
    """Whether this process runs from such a mount."""
    return bool(os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)
