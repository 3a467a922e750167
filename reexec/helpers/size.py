"""``docker-size DIRECTORY``: bytes of all files of a tree, hard links counted once."""

from __future__ import annotations

import msgspec

from reexec.archive.extract import tree_size
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter


@register("docker-size")
def main(call: Call) -> bytes:
    if len(call.argv) != 2:
        raise InvalidParameter("usage: docker-size DIRECTORY")
    return msgspec.msgpack.encode(tree_size(call.argv[1]))
