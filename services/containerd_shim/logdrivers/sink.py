"""From output to records in a file: what the shim feeds a container's output into."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from services.containerd_shim.logdrivers.base import STDERR, STDOUT, Format
from services.containerd_shim.logdrivers.files import Compressor, LogWriter, compress
from services.containerd_shim.logdrivers.json_file import JsonFormat
from services.containerd_shim.logdrivers.local import LocalFormat
from services.containerd_shim.logdrivers.options import LogOptions, parse
from services.containerd_shim.logdrivers.split import LineSplitter

FORMATS: dict[str, Callable[[Mapping[str, str]], Format]] = {"json-file": JsonFormat, "local": LocalFormat}


def _nothing(_records: bytes) -> None:
    pass


class LogSink:
    """Both streams of one container into one log.

    With a buffer (``mode=non-blocking``) records wait in memory for :meth:`flush`, and those that
    do not fit are dropped, as in moby's ``daemon/logger/ring.go``; without, they are in the file
    when :meth:`feed` returns.
    """

    def __init__(self, format_: Format, writer: LogWriter, options: LogOptions) -> None:
        self.format = format_
        self.files = writer
        self.splitters = {STDOUT: LineSplitter(), STDERR: LineSplitter()}
        #: Called with records before they are written.
        self.on_append: Callable[[bytes], None] = _nothing
        self._capacity = options.buffer
        self._waiting: deque[bytes] = deque()
        self._size = 0

    def feed(self, stream: int, data: bytes) -> None:
        """Output as it was read; the end of a line that has not ended stays in its splitter."""
        now = time.time_ns()
        for part, whole in self.splitters[stream].feed(data):
            if whole:
                self._put(self.format.encode(stream, part, now))
            else:
                self._put(self.format.encode_partial(stream, part, now))

    def finish(self, stream: int) -> None:
        """The stream has ended: its last line is written although it has no newline."""
        if rest := self.splitters[stream].finish():
            self._put(self.format.encode_partial(stream, rest, time.time_ns()))

    def _put(self, records: bytes) -> None:
        if not self._capacity:
            self._append(records)
        elif self._size + len(records) <= self._capacity:
            self._waiting.append(records)
            self._size += len(records)

    @property
    def waiting(self) -> bool:
        return bool(self._waiting)

    def flush(self) -> None:
        """Write what waits."""
        while self._waiting:
            self._append(self._waiting.popleft())
        self._size = 0

    def _append(self, records: bytes) -> None:
        self.on_append(records)
        self.files.append(records)


def open_sink(
    driver: str,
    path: str,
    options: Mapping[str, str],
    attributes: Mapping[str, str],
    compressor: Compressor = compress,
) -> LogSink | None:
    """The log of a container; None for the driver ``none``. Raises with Docker's text."""
    if driver in ("none", ""):
        return None
    parsed = parse(driver, options)
    return LogSink(FORMATS[driver](attributes), LogWriter(path, parsed, compressor), parsed)
