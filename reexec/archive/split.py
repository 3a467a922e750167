"""An archive apart from the files it holds, so that it can be put together again byte for byte.

A layer's identity is the digest of its archive, and no two writers of tar agree on every byte. While a
layer is extracted, everything but its files' contents (headers, padding) is kept, with the places of the
contents: a sequence of msgpack values, compressed with zstd, each raw bytes or ``[path, size]``.
(The idea is that of Docker's ``tar-split``.)

An archive may replace or delete a file that it has brought before. The earlier content is not in the tree
then; it is kept beside the split, in ``<name>.lost/<number of the content>``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
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
        self._contents = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._size += len(data)
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._start += skipped
        self._pending += memoryview(data)[skipped:]
        return data

    def content(self, offset: int, size: int, path: str) -> int:
        """The archive's bytes from *offset*, at least one, are those of the file *path* of the tree.

        Returns the number of the content.
        """
        raw = offset - self._start
        self._record(bytes(self._pending[:raw]))
        self._record([path, size])
        there = min(size, len(self._pending) - raw)
        del self._pending[: raw + there]
        self._start = offset + there
        self._skip = size - there
        self._contents += 1
        return self._contents - 1

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


class LostWriter:
    """Keeps files of the tree that are about to be removed, for the split *path*; made before ``chroot``."""

    def __init__(self, path: str) -> None:
        directory, self._name = os.path.split(lost(path))
        self._above = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._fd = -1

    def keep(self, number: int, path: str) -> None:
        """Take away the file *path*, which has the content *number*."""
        if self._fd < 0:
            os.mkdir(self._name, 0o700, dir_fd=self._above)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            self._fd = os.open(self._name, flags, dir_fd=self._above)
        try:
            os.rename(path, str(number), dst_dir_fd=self._fd)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy(number, path)

    def close(self) -> None:
        for fd in (self._above, self._fd):
            if fd >= 0:
                os.close(fd)

    def _copy(self, number: int, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        out = os.open(str(number), flags, 0o600, dir_fd=self._fd)
        with open(path, "rb") as source, open(out, "wb") as target:
            shutil.copyfileobj(source, target, BLOCK)


def lost(path: str) -> str:
    """The directory of the contents that are not in the tree, for the split *path*; it may be missing."""
    return path.removesuffix(".split") + ".lost"


def remove(path: str) -> None:
    """The split *path* with all that belongs to it, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    if os.path.isdir(lost(path)):
        shutil.rmtree(lost(path), ignore_errors=True)


def open_lost(path: str) -> int:
    """A descriptor of that directory, -1 if there is none."""
    try:
        return os.open(lost(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


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


def contents(path: str, length: int, *, lost_fd: int = -1, number: int = 0) -> Iterator[bytes]:
    """*length* bytes of a file of the current root, or of what was lost of content *number*.

    Raises :class:`SystemError_` when it is another file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = -1
    try:
        if lost_fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(str(number), flags, dir_fd=lost_fd)
        if fd < 0:
            fd = os.open(path, flags)
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
