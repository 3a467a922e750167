"""``docker-mkdir JSON``: a directory inside a container's root file system (its working directory)."""

from __future__ import annotations

import os

import msgspec

from reexec.archive.rootfs import RootSpec, enter
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import SystemError_


class MakeDirectory(msgspec.Struct, frozen=True):
    """``path`` is absolute; what is missing of it is made with ``mode``, owned by ``uid``:``gid``."""

    root: RootSpec
    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@register("docker-mkdir")
def main(call: Call) -> bytes:
    """The result is whether anything had to be made."""
    args = call.document(MakeDirectory)
    enter(args.root)
    os.umask(0)
    path = os.path.normpath("/" + args.path.lstrip("/"))
    try:
        missing = not os.path.isdir(path)
        _make(path, args)
    except (NotADirectoryError, FileExistsError) as error:
        raise SystemError_(f"Cannot mkdir: {path} is not a directory") from error
    return msgspec.msgpack.encode(missing)


def _make(path: str, args: MakeDirectory) -> None:
    if os.path.isdir(path):
        return
    if os.path.lexists(path):
        raise NotADirectoryError(path)
    _make(os.path.dirname(path), args)
    os.mkdir(path, args.mode)
    os.chown(path, args.uid, args.gid)
