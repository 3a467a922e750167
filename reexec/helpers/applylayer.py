"""``docker-applylayer JSON``: extract a layer from standard input, confined to its directory.

The layer's digests are computed while it is read; a layer that is not what it should be fails, and
leaves the directory for its owner to remove.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

from reexec.archive import syscalls
from reexec.archive.bounds import Bounded
from reexec.archive.extract import Extractor, Options, Whiteouts, tree_size
from reexec.archive.split import LostWriter, SplitWriter
from reexec.archive.streams import BLOCK, DigestingSource, FdSource, Source, decompressed
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter


class ApplyLayer(msgspec.Struct, frozen=True):
    """``directory`` exists. ``diff_id`` (uncompressed) and ``digest`` (as stored) are checked unless "".

    Without ``sync`` the file system is synced by who asks, for several layers at once.
    """

    directory: str
    whiteouts: Whiteouts = Whiteouts.OVERLAY
    diff_id: str = ""
    digest: str = ""
    split: str = ""
    sync: bool = True


class Applied(msgspec.Struct, frozen=True):
    """``size`` is the extracted files' bytes; ``archive_size`` those of the uncompressed archive.

    ``root`` is whether the archive says how the tree's root directory is.
    """

    diff_id: str
    size: int
    archive_size: int
    root: bool = True


@register("docker-applylayer")
def main(call: Call) -> bytes:
    return msgspec.msgpack.encode(apply(call.document(ApplyLayer), call.fds.get("stdin", 0)))


def apply(args: ApplyLayer, fd: int) -> Applied:
    # What was digested when it came is not digested again.
    raw = FdSource(fd)
    stored: Source = DigestingSource(raw) if args.digest else raw
    with contextlib.ExitStack() as stack:
        # Before the root changes: behind it neither the libraries nor the split's place can be reached.
        top = os.open(args.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, top)
        layer = DigestingSource(Bounded(decompressed(stored), raw, top))
        splitter = SplitWriter(layer, stack.enter_context(open(args.split, "wb"))) if args.split else None
        lost = LostWriter(args.split) if args.split else None
        if lost is not None:
            stack.callback(lost.close)
        os.chroot(args.directory)
        os.chdir("/")
        os.umask(0)
        extractor = _extract(args, layer, splitter, lost)
        # A tree that holds the layers below as well says nothing about this one.
        size = extractor.size if args.whiteouts is Whiteouts.REMOVE else tree_size("/")
        layer.drain()
        while stored.read(BLOCK):
            pass  # the sender must not see its pipe closed early
        if isinstance(stored, DigestingSource) and stored.digest != args.digest:
            raise InvalidParameter(f'blob digest mismatch: expected "{args.digest}", got "{stored.digest}"')
        if args.diff_id and layer.digest != args.diff_id:
            raise InvalidParameter(f'expected "{args.diff_id}", got "{layer.digest}"')
        if splitter is not None:
            splitter.flush()
        if args.sync:
            syscalls.syncfs(top)
    return Applied(layer.digest, size, layer.size, extractor.root)


def _extract(
    args: ApplyLayer, layer: DigestingSource, splitter: SplitWriter | None, lost: LostWriter | None
) -> Extractor:
    """Extract into the current root."""
    options = Options(whiteouts=args.whiteouts)
    if splitter is None or lost is None:
        extractor = Extractor(options)
        extractor.extract(layer)
    else:
        extractor = Extractor(options, splitter.content, lost.keep)
        extractor.extract(splitter)
        while splitter.read(BLOCK):
            pass
        splitter.close()
    return extractor
