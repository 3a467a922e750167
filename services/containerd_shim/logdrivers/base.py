"""The contract of a log driver, and the formats they share.

A log is a sequence of records in files, one record a line of text, oldest first. What differs from
driver to driver is the text of a record: a :class:`Format`. Times are Unix nanoseconds when
written, and RFC 3339 in UTC with nine digits when read (:data:`FIXED_WIDTH` characters), so that
they can be compared as text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import quote_plus

STDOUT = 1
STDERR = 2
STREAM_NAMES = {STDOUT: "stdout", STDERR: "stderr"}

#: Longest record, in bytes of output; longer lines become several (moby daemon/logger/copier.go).
LINE_LIMIT = 16 * 1024
#: Characters of ``2006-01-02T15:04:05.000000000Z``.
FIXED_WIDTH = 30


class Record(NamedTuple):
    """One record as read back; ``line`` has its newline unless the line goes on or ended without."""

    stream: int
    time: str
    line: bytes
    details: str


class Format(Protocol):
    """Records as text. Every record is one line of the file."""

    def encode(self, stream: int, lines: bytes, now: int) -> bytes:
        """Records of *lines*: whole lines, each with its newline."""

    def encode_partial(self, stream: int, piece: bytes, now: int) -> bytes:
        """The record of a piece of a line, without newline."""

    def decode(self, text: bytes) -> Record | None:
        """The record in *text* (one line of the file, without newline); None if it is not one."""


_second = (0, "")


def rfc3339_fixed(nanoseconds: int) -> str:
    """Unix nanoseconds as RFC 3339 in UTC with nine digits."""
    global _second
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    if _second[0] != seconds:
        _second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    return f"{_second[1]}.{rest:09d}Z"


def rfc3339_nano(nanoseconds: int) -> str:
    """Unix nanoseconds as Go's ``time.RFC3339Nano`` prints them: no trailing zeros."""
    return rfc3339_fixed(nanoseconds)[:-1].rstrip("0").rstrip(".") + "Z"


def fixed(text: str) -> str:
    """An RFC 3339 time in UTC, of any number of digits, with nine."""
    if len(text) == FIXED_WIDTH:
        return text
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9.9}Z"


def details(attributes: Mapping[str, str]) -> str:
    """Attributes as ``docker logs --details`` shows them (moby daemon/logger/loggerutils)."""
    return ",".join(f"{quote_plus(key)}={quote_plus(attributes[key])}" for key in sorted(attributes))
