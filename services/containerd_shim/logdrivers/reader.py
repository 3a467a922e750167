"""Reading a log: from the beginning or the last lines, to its end, and on as it grows."""

from __future__ import annotations

import os
from typing import BinaryIO

from services.containerd_shim.logdrivers.files import LogFiles

#: Bytes of records handed out at once.
PIECE = 64 * 1024


class LogReader:
    """A place in a log. :meth:`read` gives whole records; ``b""`` is the end, for now.

    With *end*, a (generation, offset), nothing behind that place is read.
    """

    def __init__(self, files: LogFiles, tail: int = -1, end: tuple[int, int] | None = None) -> None:
        self._files = files
        self._end = end
        self._file: BinaryIO | None = None
        self._rest = b""
        #: Generation and offset of the next byte to read.
        self.generation = files.oldest
        self.offset = 0
        if tail >= 0:
            self.generation, self.offset = _tail(files, tail)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> bytes:
        """The next whole records, about :data:`PIECE` bytes of them."""
        while True:
            data = self._read_file()
            if data:
                self.offset += len(data)
                data = self._rest + data
                cut = data.rfind(b"\n") + 1
                self._rest = data[cut:]
                if cut:
                    return data[:cut]
            elif not self._next_file():
                return b""

    def _read_file(self) -> bytes:
        if self._file is None:
            self._file = self._files.open(self.generation)
            if self._file is None:
                return b""
            self._file.seek(self.offset)
        if self._end is None or self.generation < self._end[0]:
            return self._file.read(PIECE)
        return self._file.read(min(PIECE, max(self._end[1] - self.offset, 0)))

    def _next_file(self) -> bool:
        """Go on to the next generation, if there is one: this one has been read to its end."""
        last = self._files.generation if self._end is None else self._end[0]
        if self.generation >= last:
            return False
        self.close()
        self._rest = b""
        self.generation = max(self.generation + 1, self._files.oldest)
        self.offset = 0
        return True


def _tail(files: LogFiles, lines: int) -> tuple[int, int]:
    """Where the last *lines* records begin, found from the end backwards."""
    wanted = lines
    for generation in range(files.generation, files.oldest - 1, -1):
        file = files.open(generation)
        if file is None:
            continue
        with file:
            offset, wanted = _tail_file(file, wanted)
        if wanted <= 0:
            return generation, offset
    return files.oldest, 0


def _tail_file(file: BinaryIO, wanted: int) -> tuple[int, int]:
    """(offset of the last *wanted* lines, how many are still missing before this file)."""
    end = position = file.seek(0, os.SEEK_END)
    if wanted == 0:
        return end, 0
    missing = wanted + 1  # the newline that ends the line before the first wanted one
    while position > 0:
        begin = max(position - PIECE, 0)
        file.seek(begin)
        block = file.read(position - begin)
        count = block.count(b"\n")
        if count >= missing:
            at = len(block)
            for _ in range(missing):
                at = block.rfind(b"\n", 0, at)
            return begin + at + 1, 0
        missing -= count
        position = begin
    return 0, missing - 1
