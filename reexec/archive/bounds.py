"""Archives that become far more than they were: refused before they fill the disk."""

from __future__ import annotations

import os

from reexec.archive.streams import FdSource, Source
from services.protocol.errors import InvalidParameter, SystemError_

#: What gzip can make of a byte at the most is 1032 bytes.
RATIO = 1100
#: Bytes of an archive whatever it is made from.
HARMLESS = 4 << 30
#: Bytes that an archive leaves free, or a hundredth of a file system that is smaller than 100 times that.
RESERVE = 1 << 30
#: Bytes of an archive between two looks.
_LOOK = 16 << 20


class Bounded:
    """*source*, the archive that *stored* is when it is decompressed, as long as it is no bomb.

    It is one when it is larger than gzip could make it from so many bytes (other methods can), beyond a
    size that does no harm, or when the file system of *directory_fd* would be left without room.
    """

    def __init__(self, source: Source, stored: FdSource, directory_fd: int) -> None:
        self._source = source
        self._stored = stored
        self._directory = directory_fd
        self._size = 0
        self._look = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._size += len(data)
        if self._size >= self._look:
            self._look = self._size + _LOOK
            self._check()
        return data

    def _check(self) -> None:
        if self._size > HARMLESS + self._stored.size * RATIO:
            raise InvalidParameter(
                f"archive is refused: {self._stored.size} bytes of it become more than {self._size} (a bomb?)"
            )
        found = os.fstatvfs(self._directory)
        if found.f_bavail * found.f_frsize < min(RESERVE, found.f_blocks * found.f_frsize // 100):
            raise SystemError_("no space left on device")
        if found.f_files and found.f_favail < found.f_files // 100:
            raise SystemError_("no space left on device")
