"""The ``local`` driver's format: ``o+<time> <details> <line>``, the output's bytes as they are.

``o`` or ``e`` is the stream, ``+`` a whole line, ``-`` a piece of one; no details are ``-``. Lines
have no newline inside, so nothing needs to be escaped.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.containerd_shim.logdrivers.base import STDERR, STDOUT, Record, details, rfc3339_fixed

_LETTERS = {STDOUT: "o", STDERR: "e"}


class LocalFormat:
    """See :class:`~services.containerd_shim.logdrivers.base.Format`."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._details = details(attributes) or "-"

    def _prefix(self, stream: int, mark: str, now: int) -> bytes:
        return f"{_LETTERS[stream]}{mark}{rfc3339_fixed(now)} {self._details} ".encode()

    def encode(self, stream: int, lines: bytes, now: int) -> bytes:
        prefix = self._prefix(stream, "+", now)
        return b"".join((prefix, lines[:-1].replace(b"\n", b"\n" + prefix), b"\n"))

    def encode_partial(self, stream: int, piece: bytes, now: int) -> bytes:
        return b"".join((self._prefix(stream, "-", now), piece, b"\n"))

    def decode(self, text: bytes) -> Record | None:
        try:
            head, shown, line = text.split(b" ", 2)
            stream = {b"o": STDOUT, b"e": STDERR}[head[:1]]
        except (ValueError, KeyError):
            return None
        whole = head[1:2] == b"+"
        return Record(
            stream,
            head[2:].decode(),
            line + b"\n" if whole else line,
            "" if shown == b"-" else shown.decode(),
        )
