"""``docker-applylayer JSON``: extract a layer from standard input, confined to its directory.

The layer's digests are computed while it is read; a layer that is not what it should be fails, and
leaves the directory for its owner to remove.
"""

from __future__ import annotations

import os

import msgspec

from reexec.archive import syscalls
from reexec.archive.extract import Extractor, Options, Whiteouts, tree_size
from reexec.archive.streams import DigestingSource, FdSource, decompressed
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter


class ApplyLayer(msgspec.Struct, frozen=True):
    """``directory`` exists. ``diff_id`` (uncompressed) and ``digest`` (as stored) are checked unless ""."""

    directory: str
    whiteouts: Whiteouts = Whiteouts.OVERLAY
    diff_id: str = ""
    digest: str = ""


class Applied(msgspec.Struct, frozen=True):
    """``size`` is the extracted files' bytes; ``archive_size`` those of the uncompressed archive."""

    diff_id: str
    size: int
    archive_size: int


@register("docker-applylayer")
def main(call: Call) -> bytes:
    return msgspec.msgpack.encode(apply(call.document(ApplyLayer), call.fds.get("stdin", 0)))


def apply(args: ApplyLayer, fd: int) -> Applied:
    stored = DigestingSource(FdSource(fd))
    # The decompressors are imported here: behind chroot their files are out of reach.
    layer = DigestingSource(decompressed(stored))
    top = os.open(args.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chroot(args.directory)
    os.chdir("/")
    os.umask(0)
    extractor = Extractor(Options(whiteouts=args.whiteouts))
    extractor.extract(layer)
    layer.drain()
    stored.drain()
    if args.digest and stored.digest != args.digest:
        raise InvalidParameter(f'blob digest mismatch: expected "{args.digest}", got "{stored.digest}"')
    if args.diff_id and layer.digest != args.diff_id:
        raise InvalidParameter(f'expected "{args.diff_id}", got "{layer.digest}"')
    # A tree that holds the layers below as well says nothing about this one.
    size = extractor.size if args.whiteouts is Whiteouts.REMOVE else tree_size("/")
    syscalls.syncfs(top)
    return Applied(layer.digest, size, layer.size)
