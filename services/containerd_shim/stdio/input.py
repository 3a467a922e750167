"""A process's standard input: a pipe's or terminal's end that is written without blocking."""

from __future__ import annotations

import os
from collections.abc import Callable

from services.containerd_shim.loop import HUP, OUT, Loop


class Input:
    """``full`` while the process does not read: clients are not read either then."""

    def __init__(self, loop: Loop, on_room: Callable[[], None]) -> None:
        self._loop = loop
        self._fd = -1
        self._waiting = b""
        self._closing = False
        self._on_room = on_room

    @property
    def full(self) -> bool:
        """Nothing more is taken now, be it that the process has not been started."""
        return (self._fd < 0 and not self._closing) or bool(self._waiting)

    def open(self, fd: int) -> None:
        """Write to *fd* from now on; it is owned and closed here."""
        os.set_blocking(fd, False)
        self._fd = fd
        if self._closing:
            self._shut()
        self._on_room()

    def write(self, data: bytes) -> None:
        """Input for the process; dropped once it has closed its end."""
        if self._fd < 0 or self._closing:
            return
        if self._waiting:
            self._waiting += data
            return
        written = self._try(data)
        if written < len(data) and self._fd >= 0:
            self._waiting = data[written:]
            self._loop.add(self._fd, OUT, self._ready)

    def close(self) -> None:
        """End of input, once what waits has been taken."""
        self._closing = True
        if not self._waiting:
            self._shut()

    def abandon(self) -> None:
        """The process has exited."""
        self._closing = True
        self._waiting = b""
        self._shut()

    def _shut(self) -> None:
        if self._fd >= 0:
            self._loop.remove(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _try(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError:  # EPIPE: nobody reads any more
            self.abandon()
            return len(data)

    def _ready(self, events: int) -> None:
        if events & (OUT | HUP):
            self._waiting = self._waiting[self._try(self._waiting) :]
        if not self._waiting:
            if self._fd >= 0:
                self._loop.remove(self._fd)
            if self._closing:
                self._shut()
            self._on_room()
