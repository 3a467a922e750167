"""Mounts that fuse-overlayfs serves: an overlay in user space, for hosts whose kernel refuses one.

::

    caller                                fuse-overlayfs
      | opens /dev/fuse, makes a mount that is attached nowhere yet
      | -- starts, with that descriptor -----> |  in the caller's mount namespace
      | attaches the mount in a namespace      |  answers its requests
      .                                        |
      . the last namespace with the mount ends |
                                               |  its reads fail: it ends

So a server lives exactly as long as there is somebody to serve, and nobody has to unmount anything.
For that it must itself be outside of the mount namespace that it serves: make the mount first, and
enter or make the namespace then.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence

from reexec.archive import syscalls

#: Type of these mounts in the engine's requests, and the program that serves them.
TYPE = "fuse.fuse-overlayfs"
PROGRAM = "fuse-overlayfs"
_DEVICE = "/dev/fuse"
#: The server's number of the descriptor it serves.
_SERVED = 3
_ROOT_MODE = "40000"


def missing() -> str:
    """What this host lacks for these mounts, "" if nothing."""
    if shutil.which(PROGRAM) is None:
        return f'exec: "{PROGRAM}": executable file not found in $PATH'
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"open {_DEVICE}: {(error.strerror or '').lower()}"
    return ""


def mount(options: Sequence[str]) -> int:
    """A descriptor of a detached overlay with *options* (``lowerdir=``, ...; "ro"), being served.

    The server is a child of the caller until the caller ends. Raises ``OSError``.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise FileNotFoundError(2, "executable file not found in $PATH", PROGRAM)
    read_only = "ro" in options
    device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        settings = {
            "source": PROGRAM,
            "subtype": PROGRAM,
            "fd": str(device),
            "rootmode": _ROOT_MODE,
            "user_id": "0",
            "group_id": "0",
            "default_permissions": None,
            "allow_other": None,
        }
        made = syscalls.detached("fuse", settings, read_only=read_only)
        try:
            _serve(program, device, [option for option in options if option not in ("ro", "rw")])
        except BaseException:
            os.close(made)
            raise
        return made
    finally:
        os.close(device)


def _serve(program: str, device: int, options: Sequence[str]) -> None:
    """Start the server; whatever else is open here is closed there, and its complaints go to our stderr.

    libfuse takes the descriptor of a mount that somebody else has made as ``/dev/fd/N``.
    """
    arguments = [program, "-f", "-o", ",".join(options), f"/dev/fd/{_SERVED}"]
    actions = [
        (os.POSIX_SPAWN_DUP2, device, _SERVED),
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    ]
    default = (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGIO)
    os.posix_spawn(program, arguments, os.environ, file_actions=actions, setsigmask=[], setsigdef=default)
