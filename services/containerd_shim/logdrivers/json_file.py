"""Docker's json-file format: ``{"log":"..\\n","stream":"stdout","time":".."}``, byte for byte.

Escapes are those of moby's ``daemon/logger/jsonfilelog/jsonlog`` (Go's, with ``<``, ``>``, ``&``,
U+2028 and U+2029 escaped; bytes that are not UTF-8 become ``\\ufffd``). All lines of one read are
encoded at once by whole-buffer operations: that is what makes a log of short lines fast.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping

import msgspec

from services.containerd_shim.logdrivers.base import (
    STDERR,
    STDOUT,
    STREAM_NAMES,
    Record,
    details,
    fixed,
    rfc3339_nano,
)

_HEAD = b'{"log":"'
_PLAIN = bytes(byte for byte in range(0x20, 0x80) if byte not in b'\\"<>&') + b"\n"
_NOT_ASCII = bytes(range(0x80, 0x100))
_ESCAPES = {bytes([byte]): b"\\u%04x" % byte for byte in [*range(0x20), *b"<>&"]}
_ESCAPES |= {b"\\": b"\\\\", b'"': b'\\"', b"\r": b"\\r"}
del _ESCAPES[b"\n"]


def _replace_invalid(error: UnicodeError) -> tuple[str, int]:
    """One ``\\ufffd`` per byte, as Go counts them."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\\ufffd" * (error.end - error.start), error.end


codecs.register_error("wharfd-json-log", _replace_invalid)


def escape(data: bytes) -> bytes:
    """*data* as the inside of a JSON string, but with its newlines left as they are."""
    special = data.translate(None, _PLAIN)
    if not special:
        return data
    controls = set(special.translate(None, _NOT_ASCII))
    for byte in sorted(controls, key=lambda byte: byte != 0x5C):  # the backslash first
        key = bytes([byte])
        data = data.replace(key, _ESCAPES[key])
    if any(byte >= 0x80 for byte in special):
        data = data.decode("utf-8", "wharfd-json-log").encode()
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return data


class _Line(msgspec.Struct):
    log: str = ""
    stream: str = "stdout"
    time: str = ""
    attrs: dict[str, str] | None = None


_decode = msgspec.json.Decoder(_Line).decode


class JsonFormat:
    """See :class:`~services.containerd_shim.logdrivers.base.Format`."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        text = ""
        if attributes:
            document = json.dumps(dict(sorted(attributes.items())), ensure_ascii=False, separators=(",", ":"))
            text = f'"attrs":{document},'
        self._middle = {
            stream: f'","stream":"{name}",{text}"time":"'.encode() for stream, name in STREAM_NAMES.items()
        }

    def encode(self, stream: int, lines: bytes, now: int) -> bytes:
        tail = b"\\n" + self._middle[stream] + rfc3339_nano(now).encode() + b'"}\n'
        return b"".join((_HEAD, escape(lines)[:-1].replace(b"\n", tail + _HEAD), tail))

    def encode_partial(self, stream: int, piece: bytes, now: int) -> bytes:
        return b"".join((_HEAD, escape(piece), self._middle[stream], rfc3339_nano(now).encode(), b'"}\n'))

    def decode(self, text: bytes) -> Record | None:
        try:
            line = _decode(text)
        except msgspec.MsgspecError:
            return None
        return Record(
            STDERR if line.stream == "stderr" else STDOUT,
            fixed(line.time),
            line.log.encode(),
            details(line.attrs) if line.attrs else "",
        )
