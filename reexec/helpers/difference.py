"""``docker-difference JSON``: what a container changed, as a layer on standard output (``docker commit``)."""

from __future__ import annotations

import os

from reexec.archive.extract import WHITEOUT
from reexec.archive.pack import Packer
from reexec.call import Call
from reexec.helpers.changes import DELETED, Changes, find
from reexec.registry import register


@register("docker-difference")
def main(call: Call) -> int:
    args = call.document(Changes)
    changes = find(args)
    stream = call.stream()
    packer = Packer(stream, newest=args.newest)
    for path, kind in sorted(changes.items()):
        if kind == DELETED:
            directory, name = os.path.split(path)
            packer.blob(os.path.join(directory, WHITEOUT + name).lstrip("/"), b"")
        else:
            # The current directory is the changed tree; the root is what it was changed from.
            packer.one("." + path, path.lstrip("/"))
    packer.close()
    stream.close()
    return 0
