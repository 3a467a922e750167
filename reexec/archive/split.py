"""An archive apart from the files it holds, so that it can be put together again byte for byte.

A layer's identity is the digest of its archive, and no two writers of tar agree on every byte. While a
layer is extracted, everything but its files' contents (headers, padding) is kept, with the places of the
contents: a sequence of msgpack values, compressed with zstd, each raw bytes or ``[path, size]``.
(The idea is that of Docker's ``tar-split``.)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import IO

import msgspec

from reexec.archive.streams import BLOCK, Source
from services.protocol.errors import SystemError_

#: Bytes before the compressed records: the size of the archive.
HEADER = 8


class SplitWriter:
    """Passes *source* on and writes its split to *file*; contents are announced by :meth:`content`."""

    def __init__(self, source: Source, file: IO[bytes]) -> None:
        import zstandard

        self._source = source
        self._file = file
        self._size = 0
        file.write(bytes(HEADER))
        self._out = zstandard.ZstdCompressor(level=3).stream_writer(file, closefd=False)
        self._pending = bytearray()
        #: Offset in the archive of the first pending byte.
        self._start = 0
        #: Bytes of content that are still to come.
        self._skip = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._size += len(data)
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._start += skipped
        self._pending += memoryview(data)[skipped:]
        return data

    def content(self, offset: int, size: int, path: str) -> None:
        """The archive's bytes from *offset* are those of the file *path* of the extracted tree."""
        if not size:
            return
        raw = offset - self._start
        self._record(bytes(self._pending[:raw]))
        self._record([path, size])
        there = min(size, len(self._pending) - raw)
        del self._pending[: raw + there]
        self._start = offset + there
        self._skip = size - there

    def close(self) -> None:
        """After the end of the archive has been read."""
        self._record(bytes(self._pending))
        self._out.close()  # type: ignore[no-untyped-call]
        self._file.seek(0)
        self._file.write(self._size.to_bytes(HEADER, "little"))

    def flush(self) -> None:
        """What is written has left this process."""
        self._file.flush()

    def _record(self, value: bytes | list[object]) -> None:
        if value:
            data = msgspec.msgpack.encode(value)
            self._out.write(len(data).to_bytes(4, "little") + data)


def records(path: str) -> Iterator[bytes | tuple[str, int]]:
    """What a split holds: raw bytes, and (path, size) of contents. Raises :class:`SystemError_`."""
    import zstandard

    with open(path, "rb") as file:
        file.seek(HEADER)
        reader = zstandard.ZstdDecompressor().stream_reader(file)
        while head := reader.read(4):
            value = msgspec.msgpack.decode(reader.read(int.from_bytes(head, "little")))
            if isinstance(value, bytes):
                yield value
            else:
                yield str(value[0]), int(value[1])


def size(path: str) -> int:
    """Bytes of the archive a split was made from. Raises ``OSError``."""
    with open(path, "rb") as file:
        return int.from_bytes(file.read(HEADER), "little")


def contents(path: str, length: int) -> Iterator[bytes]:
    """*length* bytes of a file of the current root; raises :class:`SystemError_` when it is another one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SystemError_(f"layer cannot be put together: {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SystemError_(f"layer cannot be put together: {path} is no file")
        left = length
        while left:
            data = os.read(fd, min(left, BLOCK))
            if not data:
                raise SystemError_(f"layer cannot be put together: {path} is too short")
            left -= len(data)
            yield data
    finally:
        os.close(fd)
