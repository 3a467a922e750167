"""``docker-tar JSON``: stream a part of a root file system as an archive (``docker cp``, ``export``)."""

from __future__ import annotations

import os

import msgspec

from reexec.archive.pack import Packer
from reexec.archive.rootfs import RootSpec, enter
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import NotFound


class Tar(msgspec.Struct, frozen=True):
    """``path`` is absolute inside the root; links in all but its last part are followed.

    ``name`` is what the archive calls it; "" leaves the top itself out.
    """

    root: RootSpec
    path: str = "/"
    name: str = ""
    one_filesystem: bool = False


@register("docker-tar")
def main(call: Call) -> int:
    args = call.document(Tar)
    enter(args.root)
    if not os.path.lexists(args.path):
        raise NotFound(f"no such file or directory: {args.path}")
    stream = call.stream()
    packer = Packer(stream, one_filesystem=args.one_filesystem)
    packer.add(args.path, args.name)
    packer.close()
    stream.close()
    return 0
