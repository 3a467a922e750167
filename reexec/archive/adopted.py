"""The archive of a tree that is a layer already: digested and split, never written.

A layer that is made here is a directory before it is an archive. Its archive is only needed for its
digest, and to be put together again later: so it is packed into nothing but the two.
"""

from __future__ import annotations

import hashlib
import os
from typing import IO

import msgspec

from reexec.archive.pack import Packer
from reexec.archive.split import HEADER
from reexec.archive.streams import BLOCK

#: Bytes of headers that are kept together: one record for many small entries.
_RECORD = 64 << 10


class SplitSink:
    """Takes an archive that is being written, and writes its split to *file*."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file = file
        self._hash = hashlib.sha256()
        self._raw = bytearray()
        file.write(bytes(HEADER))
        self._out = zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False)
        #: Bytes of the archive so far.
        self.size = 0

    def write(self, data: bytes | memoryview, /) -> int:
        self._raw += data
        self._hash.update(data)
        self.size += len(data)
        if len(self._raw) > _RECORD:
            self._flush()
        return len(data)

    def content(self, fd: int, size: int, path: str) -> None:
        """The next *size* bytes are those of the file *path*, open as *fd*."""
        self._flush()
        self._record([path, size])
        self.size += size
        while size:
            data = os.read(fd, min(size, BLOCK)) or bytes(min(size, BLOCK))
            self._hash.update(data)
            size -= len(data)

    def close(self) -> None:
        self._flush()
        self._out.close()  # type: ignore[no-untyped-call]
        self._file.seek(0)
        self._file.write(self.size.to_bytes(HEADER, "little"))
        self._file.flush()

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()

    def _flush(self) -> None:
        if self._raw:
            self._record(bytes(self._raw))
            self._raw.clear()

    def _record(self, value: bytes | list[object]) -> None:
        data = msgspec.msgpack.encode(value)
        self._out.write(len(data).to_bytes(4, "little") + data)


class SplitPacker(Packer):
    """Packs entries of the current directory into a :class:`SplitSink`."""

    def __init__(self, sink: SplitSink) -> None:
        super().__init__(sink)
        self._split = sink
        self._path = ""

    def one(self, path: str, name: str) -> None:
        self._path = "/" + name
        super().one(path, name)

    def _data(self, fd: int, size: int) -> None:
        if size:
            self._split.content(fd, size, self._path)
            self._write(bytes(-size % 512))
