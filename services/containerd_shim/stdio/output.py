"""One end of a process's output, read in large pieces while those who take it keep up."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from services.containerd_shim.loop import IN, Loop, Timer

#: Bytes read at once.
PIECE = 256 * 1024
#: Seconds until a terminal that no process has open is looked at again.
_REOPEN = 1.0


class Output:
    """``deliver`` gets the bytes, ``ended`` is called once at the end of file."""

    def __init__(
        self, loop: Loop, fd: int, deliver: Callable[[bytes], None], ended: Callable[[Output], None]
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._deliver = deliver
        self._ended = ended
        self._watched = False
        self._final = False
        self._retry: Timer | None = None
        os.set_blocking(fd, False)

    @property
    def open(self) -> bool:
        return self._fd >= 0

    def watch(self, wanted: bool) -> None:
        """Read it, or let the process wait for room in the pipe."""
        if self._fd < 0 or wanted == self._watched:
            return
        self._watched = wanted
        if wanted:
            self._loop.add(self._fd, IN, self._ready)
        else:
            self._loop.remove(self._fd)

    def process_exited(self) -> None:
        """A terminal without processes has come to its end now."""
        self._final = True
        self.watch(True)

    def close(self) -> None:
        """Stop reading, whether or not it has ended."""
        if self._fd >= 0:
            self.watch(False)
            if self._retry is not None:
                self._retry.cancel()
            os.close(self._fd)
            self._fd = -1

    def read_rest(self) -> None:
        """All that is there now."""
        while self._fd >= 0 and self._read():
            pass

    def _ready(self, _: int) -> None:
        self._read()

    def _read(self) -> bool:
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            if not self._final:  # every process has closed the terminal, one may open it again
                self.watch(False)
                self._retry = self._loop.later(_REOPEN, lambda: self.watch(True))
                return False
            data = b""
        if data:
            self._deliver(data)
            return True
        self.close()
        self._ended(self)
        return False
