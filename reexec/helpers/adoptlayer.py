"""``docker-adoptlayer JSON``: the tree of a container's changes becomes a layer, as it is.

The same archive that ``docker-difference`` writes is digested and split; then the tree is moved to the
layer's place. Nothing is copied. For graph drivers that keep changes apart (overlay2).
"""

from __future__ import annotations

import os
import stat

import msgspec

from reexec.archive import syscalls
from reexec.archive.adopted import SplitPacker, SplitSink
from reexec.archive.extract import WHITEOUT, tree_size
from reexec.call import Call
from reexec.helpers.applylayer import Applied
from reexec.helpers.changes import DELETED, Changes, find
from reexec.registry import register

_NANOSECONDS = 1_000_000_000


class AdoptLayer(msgspec.Struct, frozen=True):
    """``directory`` is the layer's, empty; it is replaced by ``changes.upper``."""

    changes: Changes
    directory: str
    split: str


@register("docker-adoptlayer")
def main(call: Call) -> bytes:
    args = call.document(AdoptLayer)
    # Opened in the mount namespace that both are in: elsewhere they could not be moved.
    source, upper = _parent(args.changes.upper)
    target, layer = _parent(args.directory)
    with open(args.split, "wb") as file:
        sink = SplitSink(file)
        changes = find(args.changes, every=True)
        _pack(changes, SplitPacker(sink), args.changes.newest)
        size = tree_size(".")
        sink.close()
    os.rename(upper, layer, src_dir_fd=source, dst_dir_fd=target)
    syscalls.syncfs(target)
    return msgspec.msgpack.encode(Applied(sink.digest, size, sink.size))


def _parent(path: str) -> tuple[int, str]:
    """A descriptor of the directory that *path* is in, and its name there."""
    directory, name = os.path.split(path)
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name


def _pack(changes: dict[str, int], packer: SplitPacker, newest: int | None) -> None:
    """The current directory is the changed tree; the root is what it was changed from."""
    for path, kind in sorted(changes.items()):
        if kind == DELETED:
            directory, name = os.path.split(path)
            packer.blob(os.path.join(directory, WHITEOUT + name).lstrip("/"), b"")
            continue
        found = os.lstat("." + path)
        if stat.S_ISSOCK(found.st_mode):
            os.unlink("." + path)  # it has no place in an archive, and so none in a layer
            continue
        # What lies there is what the archive tells: whole seconds.
        seconds = found.st_mtime_ns // _NANOSECONDS
        mtime = _NANOSECONDS * (seconds if newest is None else min(seconds, newest))
        if found.st_mtime_ns != mtime:
            os.utime("." + path, ns=(mtime, mtime), follow_symlinks=False)
        packer.one("." + path, path.lstrip("/"))
    packer.close()
