"""``docker-untar JSON``: extract standard input into a directory of a root file system (``docker cp``)."""

from __future__ import annotations

import os

import msgspec

from reexec.archive.extract import Extractor, Options
from reexec.archive.rootfs import RootSpec, enter
from reexec.archive.streams import FdSource, decompressed
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import NotFound, SystemError_


class Untar(msgspec.Struct, frozen=True):
    """``path`` is absolute inside the root and must be a directory; ``container`` is for messages.

    Without ``copy_owner`` everything belongs to root.
    """

    root: RootSpec
    path: str = "/"
    container: str = ""
    copy_owner: bool = True
    no_overwrite_dir_non_dir: bool = False


@register("docker-untar")
def main(call: Call) -> int:
    args = call.document(Untar)
    source = decompressed(FdSource(call.fds.get("stdin", 0)))
    enter(args.root)
    os.umask(0)
    path = os.path.realpath("/" + args.path.lstrip("/"))
    if not os.path.lexists(path):
        raise NotFound(f"Could not find the file {args.path} in container {args.container}")
    if not os.path.isdir(path):
        raise SystemError_("extraction point is not a directory")
    owner = None if args.copy_owner else (0, 0)
    Extractor(Options(owner=owner, no_overwrite_dir_non_dir=args.no_overwrite_dir_non_dir)).extract(
        source, path
    )
    return 0
