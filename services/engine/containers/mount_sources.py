"""The host's side of a bind mount: made, checked for propagation, found inside a volume."""

from __future__ import annotations

import os
from pathlib import Path

from services.engine.containers.model import ContainerMount
from services.protocol.errors import InvalidParameter, SystemError_

_SHARED = frozenset({"shared", "rshared"})
_SLAVE = frozenset({"slave", "rslave"})


def bind_source(mount: ContainerMount) -> str:
    """The source of a bind, there when this returns; raises with Docker's texts.

    A ``-v`` source that is missing is made, as a directory; that of ``--mount`` is not.
    """
    if mount.create_source:
        try:
            os.makedirs(mount.source, mode=0o755, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            pass  # a file: the kernel decides whether it fits the destination
        except OSError as error:
            # Of the directories on the way the first that could not be made.
            reason = f"mkdir {error.filename or mount.source}: {(error.strerror or '').lower()}"
            raise SystemError_(
                f"error while creating mount source path '{mount.source}': {reason}"
            ) from error
    elif not os.path.exists(mount.source):
        raise InvalidParameter(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
        )
    check_propagation(mount.source, mount.propagation)
    return mount.source


def check_propagation(source: str, propagation: str) -> None:
    """A shared or slave mount needs a source that is shared; raises ``SystemError_``."""
    if propagation not in _SHARED | _SLAVE:
        return
    mount_point, fields = _mount_of(os.path.realpath(source))
    shared = any(field.startswith("shared:") for field in fields)
    if propagation in _SHARED and not shared:
        raise SystemError_(f"path {source} is mounted on {mount_point} but it is not a shared mount")
    if propagation in _SLAVE and not shared and not any(field.startswith("master:") for field in fields):
        raise SystemError_(f"path {source} is mounted on {mount_point} but it is not a shared or slave mount")


def _mount_of(path: str) -> tuple[str, list[str]]:
    """(mount point, optional fields) of the mount that holds *path* (proc(5), mountinfo)."""
    best: tuple[str, list[str]] = ("/", [])
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        point = fields[4].encode().decode("unicode_escape")
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, fields[6 : fields.index("-")])
    return best


def volume_source(path: str, subpath: str) -> str:
    """*subpath* inside the volume at *path*; it must be there and not lead out of the volume."""
    if not subpath:
        return path
    wanted = os.path.join(path, subpath)
    try:
        real = os.path.realpath(wanted, strict=True)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise SystemError_(f"cannot access path {os.path.normpath(wanted)}: {reason}") from error
    root = os.path.realpath(path)
    if real != root and not real.startswith(root + "/"):
        raise SystemError_(f'path concatenation escapes the base directory, base: "{path}", sub: "{subpath}"')
    return real
