"""Reading archives: what went through is digested, compression is recognised by its magic number."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Protocol, cast

from services.protocol.errors import SystemError_, WharfError

if TYPE_CHECKING:
    import lzma

#: Bytes of one read.
BLOCK = 1 << 20


class Source(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class CutOff(SystemError_):
    """The stream ends in the middle of something."""

    def __init__(self) -> None:
        super().__init__("unexpected EOF")


class FdSource:
    """A descriptor; the caller owns it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        #: Bytes read so far.
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """Exactly *size* bytes, fewer only at the end of the file."""
        parts: list[bytes] = []
        left = size if size >= 0 else 1 << 62
        while left:
            data = os.read(self._fd, min(left, BLOCK))
            if not data:
                break
            parts.append(data)
            left -= len(data)
            self.size += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class DigestingSource:
    """Passes *source* on and digests it."""

    def __init__(self, source: Source, algorithm: str = "sha256") -> None:
        self._source = source
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        #: Bytes read so far.
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    def drain(self) -> None:
        """Read to the end: padding behind an archive's end marker counts too."""
        while self.read(BLOCK):
            pass

    @property
    def digest(self) -> str:
        return f"{self._algorithm}:{self._hash.hexdigest()}"


class _Ahead(io.RawIOBase):
    """*source* with its first bytes put back, as the decompressors want it."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._source.read(size)
        if 0 <= size < len(self._head):
            data, self._head = self._head[:size], self._head[size:]
            return data
        data, self._head = self._head, b""
        if size < 0:
            return data + self._source.read(-1)
        return data + self._source.read(size - len(data))

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(cast(bytearray, buffer))
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def _gzip(raw: _Ahead) -> Source:
    from isal import igzip

    return cast(Source, igzip.IGzipFile(fileobj=io.BufferedReader(raw, BLOCK), mode="rb"))  # type: ignore[no-untyped-call]


def _bzip2(raw: _Ahead) -> Source:
    import bz2

    return bz2.BZ2File(cast(IO[bytes], raw))


#: Bytes that a stream may ask its decompressor to hold: more than any usual level of xz and zstd.
_MEMORY = 128 << 20
#: Bytes that are given to a decompressor at once whose output cannot be limited. Four bytes of zstd can
#: be 128 KiB, so this is 64 MiB at the worst.
_CAREFUL = 2048


class _Xz:
    """Streams one after the other, with bounded memory; the library's own reader has no bound."""

    def __init__(self, raw: _Ahead) -> None:
        import lzma

        self._error = lzma.LZMAError
        self._decompressor = self._fresh()
        self._raw = raw
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        parts: list[bytes] = []
        left = size if size >= 0 else 1 << 62
        while left and not self._ended:
            if data := self._some(min(left, BLOCK)):
                parts.append(data)
                left -= len(data)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        if not self._decompressor.eof:
            data = self._raw.read(BLOCK // 8) if self._decompressor.needs_input else b""
            if not data and self._decompressor.needs_input:
                raise CutOff
            return self._decompressor.decompress(data, size)
        # Another stream may follow, after padding; what is no stream is not looked at.
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while not rest:
            if not (data := self._raw.read(BLOCK // 8)):
                self._ended = True
                return b""
            rest = data.lstrip(b"\0")
        self._decompressor = self._fresh()
        try:
            return self._decompressor.decompress(rest, size)
        except self._error:
            self._ended = True
            return b""

    @staticmethod
    def _fresh() -> lzma.LZMADecompressor:
        import lzma

        return lzma.LZMADecompressor(memlimit=_MEMORY)


class _Zstd:
    """Frames one after the other; the library's own reader takes a cut off frame for the end."""

    def __init__(self, raw: _Ahead) -> None:
        import zstandard

        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._raw = io.BufferedReader(raw, BLOCK // 8)
        self._ready = bytearray()
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        while not self._ended and (size < 0 or len(self._ready) < size):
            self._more()
        data = bytes(self._ready if size < 0 else self._ready[:size])
        del self._ready[: len(data)]
        return data

    def _more(self) -> None:
        data = self._raw.read(_CAREFUL)
        if not data:
            if self._frame is not None:
                raise CutOff
            self._ended = True
        while data:
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._ready += self._frame.decompress(data)
            data = b""
            if self._frame.eof:
                data, self._frame = self._frame.unused_data, None


def _zstd(raw: _Ahead) -> Source:
    return _Zstd(raw)


_MAGIC: tuple[tuple[bytes, Callable[[_Ahead], Source]], ...] = (
    (b"\x1f\x8b\x08", _gzip),
    (b"BZh", _bzip2),
    (b"\xfd7zXZ\x00", _Xz),
    (b"\x28\xb5\x2f\xfd", _zstd),
)


#: Bytes of a compressed stream that are enough for its first header, nearly always.
_HEAD_BLOCK = 16 << 10


def _gzip_head() -> Callable[[bytes], bytes]:
    import zlib

    return zlib.decompressobj(wbits=31).decompress


def _bzip2_head() -> Callable[[bytes], bytes]:
    import bz2

    return bz2.BZ2Decompressor().decompress


def _xz_head() -> Callable[[bytes], bytes]:
    import lzma

    return lzma.LZMADecompressor().decompress


def _zstd_head() -> Callable[[bytes], bytes]:
    import zstandard

    return zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj().decompress


_HEADS: tuple[tuple[bytes, Callable[[], Callable[[bytes], bytes]]], ...] = tuple(
    zip((magic for magic, _ in _MAGIC), (_gzip_head, _bzip2_head, _xz_head, _zstd_head), strict=True)
)


class _Checked:
    """A decompressor whose library's exceptions become the taxonomy's."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._source.read(size)
        except EOFError as error:
            raise CutOff from error
        except WharfError:
            raise
        except OSError as error:
            if error.errno is not None:
                raise
            raise SystemError_(f"archive is not readable: {error}") from error
        except Exception as error:
            raise SystemError_(f"archive is not readable: {error}") from error


def head_of(source: Source, size: int) -> bytes:
    """The first *size* bytes of *source* decompressed, fewer where it ends, is cut off or broken."""
    data = source.read(_HEAD_BLOCK)
    decompress = next((make() for magic, make in _HEADS if data.startswith(magic)), None)
    if decompress is None:
        return data[:size]
    head = b""
    try:
        while data and len(head) < size:
            head += decompress(data)
            data = source.read(_HEAD_BLOCK)
    except Exception:
        return head[:size]  # each library has errors of its own; what came so far is good
    return head[:size]


def import_decompressors() -> None:
    """For a process that is about to be confined: in another root the libraries cannot be found."""
    for name in ("bz2", "isal.igzip", "lzma", "zlib", "zstandard"):
        importlib.import_module(name)


def decompressed(source: Source) -> Source:
    """*source* decompressed (gzip, bzip2, xz, zstd), or as it is."""
    head = source.read(10)
    raw = _Ahead(head, source)
    for magic, opener in _MAGIC:
        if head.startswith(magic):
            return _Checked(opener(raw))
    return raw
