"""The files of one log: ``path`` is written, ``path.1`` is older, ``path.2`` older still.

Generations count the files: the one that is written has the highest, each rotation adds one. A
reader keeps its place as (generation, offset), which stays true when files are renamed under it.
With one file only, rotation begins it anew.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from typing import BinaryIO, cast

from services.containerd_shim.logdrivers.options import LogOptions

#: Bytes read at once when looking for the last newline of a file.
_TAIL = 64 * 1024
#: Compresses a file, at once or apart; what it returns then waits for the end of that.
Compressor = Callable[[str], "Callable[[], None] | None"]
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def rotated(path: str, index: int) -> str:
    """The name of the file *index* rotations old; 0 is the one that is written."""
    return f"{path}.{index}" if index else path


def _zipped(path: str) -> str:
    return path + ".gz"


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _there(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def compress(path: str) -> None:
    """Replace *path* by ``path.gz``; harmless if *path* has gone meanwhile."""
    fresh = path + ".gz.tmp"
    try:
        with open(path, "rb") as source, gzip.open(fresh, "wb", 6) as sink:
            shutil.copyfileobj(source, sink, 1024 * 1024)
    except FileNotFoundError:
        _unlink(fresh)
        return
    os.replace(fresh, _zipped(path))
    _unlink(path)


class LogFiles:
    """The files as a reader sees them; ``generation`` is that of the file being written."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.generation = self._count()

    def _count(self) -> int:
        """How many rotated files there are."""
        index = 0
        while _there(name := rotated(self.path, index + 1)) or _there(_zipped(name)):
            index += 1
        return index

    @property
    def oldest(self) -> int:
        """The lowest generation that is still there."""
        return self.generation - self._count()

    def open(self, generation: int) -> BinaryIO | None:
        """The file of *generation*, decompressed; None if it has been removed."""
        path = rotated(self.path, self.generation - generation)
        try:
            return open(path, "rb")  # noqa: SIM115 - the caller closes it
        except FileNotFoundError:
            pass
        try:
            return cast("BinaryIO", gzip.open(_zipped(path), "rb"))
        except FileNotFoundError:
            return None


class LogWriter(LogFiles):
    """Appends records. Its process is the only writer, so a write is never torn by another's.

    A log that a crash of the machine has cut off in the middle of a record is cut back to the last
    whole one. When the disk is full the records of that write are lost, and no half record stays.
    """

    def __init__(self, path: str, options: LogOptions, compressor: Compressor = compress) -> None:
        super().__init__(path)
        self._options = options
        self._compressor = compressor
        self._compressed: Callable[[], None] | None = None
        self._fd = os.open(path, _FLAGS, 0o640)
        self.size = _cut_torn(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def append(self, records: bytes) -> None:
        """Write *records* (whole ones), rotating where the limit says so."""
        limit = self._options.max_size
        while limit is not None and self.size + len(records) > limit:
            if self.size >= limit:
                self._rotate()
                continue
            cut = records.find(b"\n", max(limit - self.size - 1, 0)) + 1
            if not cut or cut == len(records):
                break
            self._write(records[:cut])
            records = records[cut:]
        self._write(records)

    def _write(self, records: bytes) -> None:
        view = memoryview(records)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, self.size)
            return
        self.size += len(records)

    def _rotate(self) -> None:
        if self._compressed is not None:  # it goes by names that are about to be other files' (as moby waits)
            self._compressed()
            self._compressed = None
        count = self._options.max_files
        if count > 1:
            for name in (rotated(self.path, count - 1), _zipped(rotated(self.path, count - 1))):
                _unlink(name)
            for index in range(count - 2, -1, -1):
                self._shift(index)
        else:
            _unlink(self.path)  # not truncated: readers go on in the old file
        fd = os.open(self.path, _FLAGS, 0o640)
        os.close(self._fd)
        self._fd = fd
        self.generation += 1
        self.size = 0
        if self._options.compress:
            self._compressed = self._compressor(rotated(self.path, 1))

    def _shift(self, index: int) -> None:
        old, new = rotated(self.path, index), rotated(self.path, index + 1)
        for source, target in ((old, new), (_zipped(old), _zipped(new))):
            try:
                os.replace(source, target)
            except FileNotFoundError:
                pass


def _cut_torn(fd: int) -> int:
    """The size of the file behind its last newline; what follows it is cut off."""
    size = end = os.fstat(fd).st_size
    while end > 0:
        begin = max(end - _TAIL, 0)
        newline = os.pread(fd, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end < size:
        os.ftruncate(fd, end)
    return end
