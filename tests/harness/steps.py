"""Ends this process's own code before one of its steps on the file system, as ``kill -9`` would.

For code that has no clean-up of its own: ``kill -9`` runs none. Quick enough for every step of an operation;
``crashpoints`` does the same to whole services.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType

#: Audit events (docs.python.org/3/library/audit_events.html) of calls that change a file system.
_STEPS = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod",
    "os.chown", "os.setxattr", "os.utime",
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_open: list[KilledAt] = []


class Killed(BaseException):
    """Instead of a step. No clean-up that waits for an ``Exception`` sees it."""


class KilledAt:
    """While open, this process's *number*-th step (from 1) raises :class:`Killed`, and so does any later one.

    As a context manager it swallows that; ``reached`` says whether it came to it.
    """

    def __init__(self, number: int) -> None:
        self._left = number
        self._pid = os.getpid()
        self.reached = False

    def step(self) -> None:
        if os.getpid() != self._pid:
            return
        self._left -= 1
        if self._left <= 0:
            self.reached = True
            raise Killed

    def __enter__(self) -> KilledAt:
        if not _installed:
            sys.addaudithook(_hook)
            _installed.append(True)
        _open.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        _open.remove(self)
        return isinstance(error, Killed)


_installed: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    """Hooks cannot be taken away again: without one of them open it does nothing."""
    if not _open:
        return
    if event in _STEPS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
        _open[-1].step()
