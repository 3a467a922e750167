"""Tar headers, read strictly: the standard library takes a broken header for the end of the archive."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import IO, cast

from reexec.archive.streams import CutOff, Source
from services.protocol.errors import SystemError_

#: Prefix of extended attributes in PAX headers (star, GNU tar, Docker).
XATTR_PREFIX = "SCHILY.xattr."

#: Bytes that are read ahead.
_READ_AHEAD = 64 << 10
#: Reads behind the end of the stream that end a skip; the library looks there a few times anyway.
_MAX_BEHIND = 64
#: Bytes of a long name or of extended headers; they are held in memory (Go's archive/tar: 1 MiB).
_MAX_HEADER = 1 << 20
_IN_MEMORY = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


#: Files, hard and symbolic links, directories.
_PLAIN = (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE)


class _StrictInfo(tarfile.TarInfo):
    """Raises where :class:`tarfile.TarFile` would stop silently."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictInfo:
        """The library's takes most of the time of a layer with many small files."""
        return cls._plain(buf, encoding, errors) or super().frombuf(buf, encoding, errors)

    @classmethod
    def _plain(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictInfo | None:
        """A header as nearly all are; None for any that needs a closer look."""
        kind = bytes(buf[156:157])
        if len(buf) != tarfile.BLOCKSIZE or kind not in _PLAIN or buf[329:345].strip(b"0\0 "):
            return None
        numbers = bytes(buf[100:156]).replace(b"\0", b" ")
        try:
            mode, uid, gid = int(numbers[:8], 8), int(numbers[8:16], 8), int(numbers[16:24], 8)
            size, mtime, checksum = int(numbers[24:36], 8), int(numbers[36:48], 8), int(numbers[48:], 8)
        except ValueError:
            return None
        if checksum != sum(buf) - sum(buf[148:156]) + 8 * 0x20 or min(mode, uid, gid, size, mtime) < 0:
            return None

        def text(field: bytes | bytearray) -> str:
            return field.partition(b"\0")[0].decode(encoding, errors)

        info = cls(text(buf[:100]))
        info.mode, info.uid, info.gid, info.size, info.mtime = mode, uid, gid, size, mtime
        info.chksum, info.type = checksum, kind
        if buf[157]:
            info.linkname = text(buf[157:257])
        if buf[265] or buf[297]:
            info.uname, info.gname = text(buf[265:297]), text(buf[297:329])
        if kind == tarfile.DIRTYPE:
            info.name = info.name.rstrip("/")
        if buf[345]:
            info.name = f"{text(buf[345:500])}/{info.name}"
        return info

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _StrictInfo:
        try:
            return super().fromtarfile(tar)
        except tarfile.InvalidHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("archive/tar: invalid tar header") from error
        except tarfile.TruncatedHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("unexpected EOF") from error
        except (ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
            # Extended headers whose values are of another kind, or that never end.
            raise tarfile.ReadError("archive/tar: invalid tar header") from error

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        if self.type in _IN_MEMORY and self.size > _MAX_HEADER:
            raise tarfile.ReadError("archive/tar: header field too long")
        return super()._proc_member(tar)  # type: ignore[misc, no-any-return]


class Data:
    """The content of a file of the archive."""

    def __init__(self, reader: IO[bytes]) -> None:
        self._reader = reader

    def seek(self, offset: int) -> None:
        """Forward only. Raises ``ValueError``."""
        if offset < 0:
            raise ValueError("negative offset")
        self._reader.seek(offset)

    def read(self, size: int) -> bytes:
        """At most *size* bytes; raises :class:`SystemError_` when the archive is cut off."""
        try:
            return self._reader.read(size)
        except tarfile.TarError as error:
            raise _failure(error) from error


class _Forward:
    """*source* as the library wants a file, read ahead and never backwards.

    It does not let the library read on and on behind the end: a header may announce exabytes, which are
    skipped block by block, whether there are any or not.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer = b""
        #: Where in the buffer, and where in the stream the buffer begins.
        self._at = 0
        self._base = 0
        #: Bytes that have come from the source.
        self.size = 0
        self._behind = 0

    def tell(self) -> int:
        return self._base + self._at

    def seek(self, position: int) -> None:
        """Forward only; to the end at the most."""
        left = position - self._base - self._at
        if left < 0:
            raise tarfile.StreamError("seeking backwards is not allowed")
        while left > len(self._buffer) - self._at:
            left -= len(self._buffer) - self._at
            self._base += len(self._buffer)
            self._buffer, self._at = self._next(_READ_AHEAD), 0
            if not self._buffer:
                return
        self._at += left

    def read(self, size: int) -> bytes:
        """Exactly *size* bytes, fewer only at the end."""
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
            return data
        data = self._buffer[self._at :]
        self._base += len(self._buffer)
        self._buffer, self._at = b"", 0
        while (missing := size - len(data)) >= _READ_AHEAD:
            if not (more := self._next(missing)):
                return data
            self._base += len(more)
            data = data + more if data else more
        if missing:
            self._buffer = self._next(_READ_AHEAD)
            self._at = min(missing, len(self._buffer))
            data += self._buffer[: self._at]
        return data

    def _next(self, size: int) -> bytes:
        data = self._source.read(size)
        self.size += len(data)
        if not data:
            self._behind += 1
            if self._behind > _MAX_BEHIND:
                raise tarfile.ReadError("unexpected end of data")
        return data


def members(source: Source) -> Iterator[tuple[tarfile.TarInfo, Data | None]]:
    """Headers of a tar stream in order, each with the reader of its data (regular files only).

    The data must be read before the next header is asked for. Understands PAX, GNU long names and
    sparse files. Raises :class:`SystemError_` for what is not a tar archive or is cut off.
    """
    forward = _Forward(source)
    try:
        tar = tarfile.open(  # noqa: SIM115  (a generator: the caller's loop is the scope)
            fileobj=cast(IO[bytes], forward),
            mode="r:",
            tarinfo=_StrictInfo,
            errorlevel=2,
        )
    except tarfile.ReadError as error:
        if str(error) == "empty file":
            return
        raise _failure(error) from error
    try:
        end = 0
        while (info := _next(tar, forward, end)) is not None:
            end = info.offset_data + info.size
            # TarFile keeps every header for random access; this is one pass.
            tar.members.clear()  # type: ignore[attr-defined]
            reader = tar.extractfile(info) if info.isreg() else None
            # Below the library's buffer, which would copy everything once more and cannot skip holes.
            yield info, Data(reader.raw) if reader is not None else None  # type: ignore[attr-defined]
    except tarfile.TarError as error:
        raise _failure(error) from error
    except OverflowError as error:
        raise SystemError_("archive/tar: invalid tar header") from error


def _next(tar: tarfile.TarFile, forward: _Forward, end: int) -> tarfile.TarInfo | None:
    """The next header. *end* is where the last file's data ended: the docker command's archives may
    stop right there, with neither padding nor end marker, and Go's reader takes them."""
    try:
        return tar.next()
    except tarfile.ReadError as error:
        if str(error) == "unexpected end of data" and end and forward.size >= end:
            return None
        raise


def _failure(error: tarfile.TarError) -> SystemError_:
    text = str(error)
    if text in ("unexpected end of data", "unexpected EOF", "truncated header"):
        return CutOff()
    if text.startswith(("archive/tar:", "not a")):
        return SystemError_(text)
    return SystemError_(f"archive/tar: invalid tar header: {text}")


def parts(info: tarfile.TarInfo) -> list[tuple[int, int]]:
    """(offset, bytes) of what a file has, in order; between them are holes, if it is sparse.

    Raises :class:`SystemError_` for a map of a sparse file that cannot be.
    """
    if not info.issparse():
        return [(0, info.size)]
    found = [(offset, size) for offset, size in cast(list[tuple[int, int]], info.sparse or []) if size]
    end = 0
    for offset, size in found:
        if offset < end or size < 0:
            raise SystemError_("archive/tar: invalid tar header")
        end = offset + size
    if end > info.size:
        raise SystemError_("archive/tar: invalid tar header")
    return found


def mtime_ns(info: tarfile.TarInfo) -> int:
    """Modification time in nanoseconds, from the PAX record where there is one."""
    return _nanoseconds(info.pax_headers.get("mtime"), info.mtime)


def atime_ns(info: tarfile.TarInfo) -> int:
    """Access time in nanoseconds; the modification time where none is recorded."""
    record = info.pax_headers.get("atime")
    return mtime_ns(info) if record is None else _nanoseconds(record, info.mtime)


def _nanoseconds(record: str | None, fallback: float) -> int:
    """What no clock shows is the epoch, as in moby's ``boundTime``."""
    try:
        found = int(Decimal(record) * 1_000_000_000) if record is not None else int(fallback) * 1_000_000_000
    except (InvalidOperation, ValueError, OverflowError):
        return 0
    return found if 0 <= found < _MAX_TIME else 0


#: Nanoseconds that 64 bits hold.
_MAX_TIME = 1 << 63


def xattrs(info: tarfile.TarInfo) -> dict[str, bytes]:
    """Extended attributes of a header."""
    return {
        name.removeprefix(XATTR_PREFIX): value.encode("utf-8", "surrogateescape")
        for name, value in info.pax_headers.items()
        if name.startswith(XATTR_PREFIX)
    }
