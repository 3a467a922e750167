"""``docker-remove DIRECTORY...``: delete whole trees, whatever they hold.

For directories that nobody can reach any more (a trash directory): deleting a large layer takes
seconds, and whoever removed it does not wait.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable

from reexec import btrfs
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import SystemError_

#: Levels and bytes of a path that every function here can work with, whatever *top* is.
_DEEP, _LONG = 100, 2000
#: How often :func:`remove_in_use` tries, and seconds in between.
_ATTEMPTS, _PAUSE = 20, 0.1


@register("docker-remove")
def main(call: Call) -> int:
    """All that can go does, and the first failure is raised."""
    failures: list[Exception] = []
    for path in call.argv[1:]:
        try:
            remove(path)
        except (OSError, SystemError_) as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return 0


def remove(path: str) -> None:
    """Delete *path* recursively; what is already gone is fine. Raises :class:`SystemError_`.

    A btrfs subvolume goes at once, whatever is in it. Where the kernel refuses that, file by file.
    """
    if btrfs.is_subvolume(path):
        with contextlib.suppress(OSError):
            btrfs.destroy(path)
    failures: list[str] = []

    def failed(_: Callable[..., object], where: str, error: tuple[object, BaseException, object]) -> None:
        if isinstance(error[1], OSError) and error[1].errno == errno.EMFILE:
            raise error[1]
        if not isinstance(error[1], FileNotFoundError) and not _destroy_around(where, path):
            failures.append(f"{where}: {error[1]}")

    if os.path.isdir(path) and not os.path.islink(path):
        try:
            shutil.rmtree(path, onerror=failed)
        except (RecursionError, OSError):
            failures.clear()
            _flatten(path)
            shutil.rmtree(path, onerror=failed)
    elif os.path.lexists(path):
        os.unlink(path)
    if failures:
        raise SystemError_(f"cannot remove {failures[0]}")


def remove_in_use(path: str) -> None:
    """:func:`remove` although a process that is just being killed may still write to *path*. Takes up to
    seconds. Raises what the last attempt has failed with."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            return remove(path)
        except (OSError, SystemError_):
            if not left:
                raise
        time.sleep(_PAUSE)


def _flatten(top: str) -> None:
    """Move to *top* what is too deep below it for ``rmtree``, which calls itself with a file open.

    A process can nest directories without end, for it names them from where it is.
    """
    pending = [""]
    while pending:
        relative = pending.pop()
        for entry in list(os.scandir(os.path.join(top, relative))):
            if not entry.is_dir(follow_symlinks=False):
                continue
            name = os.path.join(relative, entry.name)
            if name.count("/") >= _DEEP or len(os.fsencode(name)) >= _LONG:
                moved = f".wharfd-{secrets.token_hex(8)}"
                os.rename(entry.path, os.path.join(top, moved))
                name = moved
            pending.append(name)


def _destroy_around(path: str, top: str) -> bool:
    """Whether *path* was in a subvolume below *top* that could be destroyed: it may be read-only."""
    while len(path) > len(top):
        if btrfs.is_subvolume(path):
            with contextlib.suppress(OSError):
                btrfs.destroy(path)
                return True
        path = os.path.dirname(path)
    return False
