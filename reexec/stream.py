"""The client's connection, as a helper writes to it: head first, then bytes or HTTP chunks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field


def _write_all(fd: int, parts: list[bytes | memoryview]) -> None:
    """All of *parts*, on a blocking descriptor, by as few system calls as possible."""
    while parts:
        written = os.writev(fd, parts)
        while parts and written >= len(parts[0]):
            written -= len(parts[0])
            parts.pop(0)
        if written:
            parts[0] = memoryview(parts[0])[written:]


class ClientStream:
    """Writable; ``close`` ends the output, and must not be called when it failed half-way.

    The missing end is how the client learns of the failure.
    """

    def __init__(self, fd: int, *, chunked: bool) -> None:
        self._fd = fd
        self._chunked = chunked

    def write(self, data: bytes | memoryview) -> int:
        """All of *data*; raises ``BrokenPipeError`` when the client has gone."""
        size = len(data)
        if not size:
            return 0
        if self._chunked:
            _write_all(self._fd, [b"%x\r\n" % size, data, b"\r\n"])
        else:
            _write_all(self._fd, [data])
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The zero chunk, if the output is in chunks."""
        if self._chunked:
            _write_all(self._fd, [b"0\r\n\r\n"])


@dataclass
class ClientTarget:
    """A connection that has not been written to yet.

    ``head`` is written before anything else, then *opened* is called (it acknowledges the
    hand-over). ``pending`` are bytes the client sent ahead.
    """

    fd: int
    head: bytes = b""
    pending: bytes = b""
    chunked: bool = False
    opened: Callable[[], None] = field(default=lambda: None)
    _stream: ClientStream | None = None

    @property
    def is_open(self) -> bool:
        return self._stream is not None

    def open(self) -> ClientStream:
        """The stream; the first call writes the head."""
        if self._stream is None:
            self._stream = ClientStream(self.fd, chunked=self.chunked)
            if self.head:
                _write_all(self.fd, [self.head])
            self.opened()
        return self._stream
