"""``docker-mountfrom DIRECTORY SOURCE TARGET TYPE FLAGS DATA``: mount(2) from inside a directory.

The kernel takes one page of mount options. An overlay of many layers has more, unless the layers
are named relative to a directory that holds all of them (moby ``daemon/graphdriver/overlay2/mount.go``).
:func:`mount` does the same for a process that may change its directory.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from reexec.archive import syscalls
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter

#: Mount options that are flags of mount(2): (set, clear).
_FLAGS: dict[str, tuple[int, int]] = {
    "ro": (syscalls.MS_RDONLY, 0),
    "rw": (0, syscalls.MS_RDONLY),
    "nosuid": (syscalls.MS_NOSUID, 0),
    "nodev": (syscalls.MS_NODEV, 0),
    "noexec": (syscalls.MS_NOEXEC, 0),
    "bind": (syscalls.MS_BIND, 0),
    "rbind": (syscalls.MS_BIND | syscalls.MS_REC, 0),
}
_PATHS = ("upperdir=", "workdir=")


@register("docker-mountfrom")
def main(call: Call) -> int:
    if len(call.argv) != 7:
        raise InvalidParameter("usage: docker-mountfrom DIRECTORY SOURCE TARGET TYPE FLAGS DATA")
    directory, source, target, fstype, flags, data = call.argv[1:]
    try:
        number = int(flags, 0)
    except ValueError as error:
        raise InvalidParameter(f"docker-mountfrom: flags are not a number: {flags}") from error
    mount_from(directory, source, target, fstype, number, data)
    return 0


def mount_from(directory: str, source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """mount(2) with *directory* as the current directory, which it stays."""
    os.chdir(directory)
    syscalls.mount(source, target, fstype, flags, data)


def mount(
    fstype: str, source: str, target: str, options: list[str], reopen: Callable[[], str] | None = None
) -> None:
    """Mount with options as in fstab; overlay options longer than a page are made relative.

    *target* must be absolute. Changes the current directory when it has to. A *target* that is a
    descriptor's path still names what is below the new mount: *reopen* then returns the mount's.
    """
    flags, data = 0, []
    for option in options:
        if option in _FLAGS:
            add, drop = _FLAGS[option]
            flags = (flags | add) & ~drop
        else:
            data.append(option)
    directory, data = compact(data) if fstype == "overlay" else ("", data)
    if directory:
        mount_from(directory, source, target, fstype, flags, ",".join(data))
    elif flags & syscalls.MS_BIND:
        _bind(source, target, flags, data, reopen)
    else:
        syscalls.mount(source, target, fstype, flags, ",".join(data))


def _bind(source: str, target: str, flags: int, data: list[str], reopen: Callable[[], str] | None) -> None:
    recursive = flags & syscalls.MS_REC
    syscalls.mount(source, target, "", syscalls.MS_BIND | recursive, ",".join(data))
    if flags & ~(syscalls.MS_BIND | syscalls.MS_REC):
        # The first mount(2) of a bind takes no flags.
        mounted = reopen() if reopen is not None else target
        syscalls.mount("none", mounted, "", syscalls.MS_REMOUNT | (flags & ~syscalls.MS_REC))


def compact(options: list[str], limit: int = 0) -> tuple[str, list[str]]:
    """(directory to mount from, options relative to it) of an overlay; ("", options) if they fit.

    *limit* is in bytes, by default a page less the terminating NUL. Raises :class:`InvalidParameter`
    when the layers share no directory or are too many even so.
    """
    limit = limit or resource.getpagesize() - 1
    if _length(options) <= limit:
        return "", options
    paths = [path for option in options for path in _paths(option)]
    try:
        directory = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError as error:
        raise InvalidParameter("overlay options are longer than a page and share no directory") from error
    relative = [_relative(option, directory.rstrip("/") + "/") for option in options]
    if _length(relative) > limit:
        raise InvalidParameter(f"an overlay of {len(paths)} layers is more than the kernel can mount")
    return directory, relative


def _length(options: list[str]) -> int:
    return len(os.fsencode(",".join(options)))


def _paths(option: str) -> list[str]:
    if option.startswith("lowerdir="):
        return option.removeprefix("lowerdir=").split(":")
    return [option.removeprefix(prefix) for prefix in _PATHS if option.startswith(prefix)]


def _relative(option: str, prefix: str) -> str:
    paths = _paths(option)
    if not paths:
        return option
    key = option[: option.index("=") + 1]
    return key + ":".join(path.removeprefix(prefix) for path in paths)
