"""``docker-buildstubs JSON``: mount points that the mounts of a RUN step need, and its layer shall not have.

Asked before the step which parts of the paths are missing, and told after it to remove those again.
"""

from __future__ import annotations

import contextlib
import os
import stat

import msgspec

from reexec.archive.rootfs import RootSpec, enter
from reexec.call import Call
from reexec.registry import register


class Missing(msgspec.Struct, frozen=True):
    """``path`` (without links) was not there; ``parent`` was, last changed at ``mtime`` (Unix
    nanoseconds), or is missing as well (``mtime`` -1)."""

    path: str
    parent: str
    mtime: int


class Stubs(msgspec.Struct, frozen=True):
    """Look for what is missing of ``paths``; or remove ``stubs``, in this order."""

    root: RootSpec
    paths: list[str] = []
    stubs: list[Missing] = []


@register("docker-buildstubs")
def main(call: Call) -> bytes:
    """The result is a list of :class:`Missing`, the deepest first; empty when stubs were removed."""
    args = call.document(Stubs)
    enter(args.root)
    for stub in args.stubs:
        _remove(stub)
    found = {one.path: one for path in args.paths for one in _missing(os.path.realpath(path))}
    deepest_first = sorted(found.values(), key=lambda one: one.path.count("/"), reverse=True)
    return msgspec.msgpack.encode(deepest_first)


def _missing(path: str) -> list[Missing]:
    found: list[Missing] = []
    while not os.path.lexists(path):
        parent = os.path.dirname(path)
        mtime = os.lstat(parent).st_mtime_ns if os.path.lexists(parent) else -1
        found.append(Missing(path, parent, mtime))
        path = parent
    return found


def _remove(stub: Missing) -> None:
    """Unless the step has put something there."""
    # The step may have replaced any part of the path: a link is not followed.
    if os.path.realpath(stub.path) != stub.path:
        return
    with contextlib.suppress(OSError):
        state = os.lstat(stub.path)
        if stat.S_ISDIR(state.st_mode):
            os.rmdir(stub.path)
        elif stat.S_ISREG(state.st_mode) and not state.st_size:
            os.unlink(stub.path)
        if stub.mtime >= 0:
            os.utime(stub.parent, ns=(os.lstat(stub.parent).st_atime_ns, stub.mtime))
