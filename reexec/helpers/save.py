"""``docker-save PLAN``: write the archive of ``docker save``, layers put together from their splits.

PLAN is a file that is removed once it is read: a plan can be larger than a message.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator

import msgspec

from reexec.archive import split
from reexec.archive.pack import Packer, Sink
from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter, SystemError_


class SavedLayer(msgspec.Struct, frozen=True):
    """``directory`` holds the files, ``split`` the rest; together they must be ``diff_id``."""

    directory: str
    split: str
    diff_id: str


class SavedEntry(msgspec.Struct, frozen=True):
    """A directory, or a file that is either ``data`` or a layer. ``mtime`` is Unix seconds."""

    name: str
    data: bytes | None = None
    layer: SavedLayer | None = None
    mtime: int = 0


@register("docker-save")
def main(call: Call) -> int:
    if len(call.argv) != 2:
        raise InvalidParameter("usage: docker-save PLAN")
    with open(call.argv[1], "rb") as file:
        plan = msgspec.msgpack.decode(file.read(), type=list[SavedEntry])
    os.unlink(call.argv[1])
    stream = call.stream()
    packer = Packer(stream)
    for entry in plan:
        if entry.layer is not None:
            _layer(stream, entry, entry.layer)
        elif entry.data is not None:
            packer.blob(entry.name, entry.data, mtime=entry.mtime)
        else:
            packer.directory(entry.name, mtime=entry.mtime)
    packer.close()
    stream.close()
    return 0


def _layer(sink: Sink, entry: SavedEntry, layer: SavedLayer) -> None:
    info = tarfile.TarInfo(entry.name)
    info.size, info.mtime, info.mode = split.size(layer.split), entry.mtime, 0o644
    sink.write(info.tobuf(tarfile.PAX_FORMAT))
    digest = hashlib.sha256()
    for data in joined(layer):
        digest.update(data)
        sink.write(data)
    if f"sha256:{digest.hexdigest()}" != layer.diff_id:
        raise SystemError_(f"layer {layer.diff_id} cannot be put together from its files")
    sink.write(b"\0" * (-info.size % tarfile.BLOCKSIZE))


def joined(layer: SavedLayer) -> Iterator[bytes]:
    """The layer's archive. Its files are looked up with its directory as the root."""
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    lost_fd = split.open_lost(layer.split)
    records = split.records(layer.split)
    record = next(records, None)  # opened before the root is another one
    os.chroot(layer.directory)
    os.chdir("/")
    number = 0
    try:
        while record is not None:
            if isinstance(record, bytes):
                yield record
            else:
                yield from split.contents(*record, lost_fd=lost_fd, number=number)
                number += 1
            record = next(records, None)
    finally:
        os.fchdir(here)
        os.chroot(".")
        os.close(here)
        if lost_fd >= 0:
            os.close(lost_fd)
