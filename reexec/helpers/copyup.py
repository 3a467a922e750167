"""``docker-copyup JSON``: what an image has where a volume is mounted becomes the volume's content."""

from __future__ import annotations

import enum
import os

import msgspec

from reexec.archive.rootfs import RootSpec, enter
from reexec.call import Call
from reexec.helpers.copytree import copy_tree
from reexec.registry import register
from services.protocol.errors import SystemError_


class CopiedUp(enum.StrEnum):
    """What came of it: ``FILE`` is what has to be refused, a volume over what is no directory."""

    COPIED = "copied"
    ABSENT = "absent"
    FILE = "file"
    KEPT = "kept"


class CopyUp(msgspec.Struct, frozen=True):
    """The content of directory ``path`` of the root into ``target``, a directory of the host.

    Nothing happens when ``path`` is no directory or ``target`` is not empty.
    """

    root: RootSpec
    path: str
    target: str


@register("docker-copyup")
def main(call: Call) -> bytes:
    """The result is a :class:`CopiedUp`."""
    args = call.document(CopyUp)
    fd = os.open(args.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    enter(args.root)
    os.umask(0)
    # The descriptor leads out of the root on purpose: it is the one place that is written to.
    os.fchdir(fd)
    return msgspec.msgpack.encode(_copy(args.path))


def _copy(path: str) -> CopiedUp:
    """Into the working directory."""
    if not os.path.isdir(path):
        return CopiedUp.FILE if os.path.exists(path) else CopiedUp.ABSENT
    if os.listdir("."):
        return CopiedUp.KEPT
    try:
        copy_tree(os.path.realpath(path), ".")
    except OSError as error:
        raise SystemError_(f"failed to copy {path} to a volume: {error.strerror}") from error
    return CopiedUp.COPIED
