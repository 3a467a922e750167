"""DNS messages, as far as the embedded server looks into them (RFC 1035).

A question is understood and answered with addresses or names; everything else is passed on
unread, so that no record type or extension is lost.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

A, PTR, MX, AAAA, ANY = 1, 12, 15, 28, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NOTIMP = 0, 1, 2, 4
#: Seconds that an answer may be cached; libnetwork's.
TTL = 600
#: Bytes of an answer by UDP that every client takes.
UDP_LIMIT = 512
_HEADER = struct.Struct(">HHHHHH")
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_NAME_MAX = 255


class Malformed(ValueError):
    """Not a question that can be answered."""


@dataclass(frozen=True)
class Question:
    """``name`` is lower case, without the last dot; ``raw`` the question's own bytes."""

    id: int
    flags: int
    name: str
    kind: int
    raw: bytes


def parse(data: bytes) -> Question:
    """The one question of a query; raises :class:`Malformed`."""
    if len(data) < _HEADER.size:
        raise Malformed("shorter than a header")
    id_, flags, questions, _, _, _ = _HEADER.unpack_from(data)
    if flags & _RESPONSE or flags & _OPCODE or questions != 1:
        raise Malformed("not a query of one question")
    name, offset = _name(data, _HEADER.size)
    if offset + 4 > len(data):
        raise Malformed("cut off")
    kind, class_ = struct.unpack_from(">HH", data, offset)
    if class_ not in (IN, ANY):
        raise Malformed("not of the Internet's class")
    return Question(id_, flags, name.lower(), kind, data[_HEADER.size : offset + 4])


def _name(data: bytes, offset: int) -> tuple[str, int]:
    labels: list[str] = []
    start = offset
    while True:
        if offset >= len(data) or offset - start > _NAME_MAX:
            raise Malformed("name without an end")
        length = data[offset]
        offset += 1
        if length == 0:
            return ".".join(labels), offset
        if length > 63 or offset + length > len(data):
            raise Malformed("label too long")
        labels.append(data[offset : offset + length].decode("latin-1"))
        offset += length


def encode_name(name: str) -> bytes:
    labels = [label.encode("latin-1", "replace")[:63] for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def answer(
    question: Question, records: Sequence[bytes], *, rcode: int = NOERROR, limit: int = UDP_LIMIT
) -> bytes:
    """A response; *records* is the data of records of the question's name and kind."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | (question.flags & _RECURSION_DESIRED) | rcode
    # 0xC00C points at the question's name.
    packed = [
        struct.pack(">HHHIH", 0xC00C, question.kind, IN, TTL, len(record)) + record for record in records
    ]
    space = limit - _HEADER.size - len(question.raw)
    while packed and sum(map(len, packed)) > space:
        packed.pop()
        flags |= _TRUNCATED
    header = _HEADER.pack(question.id, flags, 1, len(packed), 0, 0)
    return header + question.raw + b"".join(packed)


def refuse(data: bytes, rcode: int) -> bytes:
    """An answer to what could not be parsed; empty if there is not even an id."""
    if len(data) < _HEADER.size:
        return b""
    id_, flags = struct.unpack_from(">HH", data)
    return _HEADER.pack(id_, _RESPONSE | (flags & (_OPCODE | _RECURSION_DESIRED)) | rcode, 0, 0, 0, 0)


def with_id(data: bytes, id_: int) -> bytes:
    return struct.pack(">H", id_) + data[2:]


def id_of(data: bytes) -> int:
    return int.from_bytes(data[:2], "big")


def is_failure(data: bytes) -> bool:
    """The server could not say: another one is asked."""
    return len(data) < _HEADER.size or data[3] & 0xF in (SERVFAIL, NOTIMP, 5)
