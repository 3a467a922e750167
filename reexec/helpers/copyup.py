"""``docker-copyup JSON``: what an image has where a volume is mounted becomes the volume's content."""

from __future__ import annotations

import os

import msgspec

from reexec.archive.rootfs import RootSpec, enter
from reexec.call import Call
from reexec.helpers.copytree import copy_tree
from reexec.registry import register
from services.protocol.errors import SystemError_


class CopyUp(msgspec.Struct, frozen=True):
    """The content of directory ``path`` of the root into ``target``, a directory of the host.

    Nothing happens when ``path`` is no directory or ``target`` is not empty.
    """

    root: RootSpec
    path: str
    target: str


@register("docker-copyup")
def main(call: Call) -> bytes:
    """The result is whether anything was copied."""
    args = call.document(CopyUp)
    fd = os.open(args.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    enter(args.root)
    os.umask(0)
    copied = False
    # The descriptor leads out of the root on purpose: it is the one place that is written to.
    os.fchdir(fd)
    if os.path.isdir(args.path) and not os.listdir("."):
        try:
            copy_tree(os.path.realpath(args.path), ".")
        except OSError as error:
            raise SystemError_(f"failed to copy {args.path} to a volume: {error.strerror}") from error
        copied = True
    return msgspec.msgpack.encode(copied)
