"""What ``wharfd`` holds for the API server, and hands down to it: its listening sockets.

They are those it has made itself before it was killed (:mod:`services.protocol.listening`), and those that
``wharfd`` was started with (``fd://``; sd_listen_fds(3)).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from services.protocol.listening import ENVIRONMENT, Shelf

_LISTEN_FDS_START = 3


class Listening:
    """*hosts*: the addresses of the API."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self._paths = [host.removeprefix("unix://") for host in hosts if host.startswith("unix://")]
        self._shelf = Shelf()
        ours = os.environ.get("LISTEN_PID") == str(os.getpid())
        count = int(os.environ.get("LISTEN_FDS", "0")) if ours else 0
        self._passed = range(_LISTEN_FDS_START, _LISTEN_FDS_START + count)
        for fd in self._passed:
            os.set_inheritable(fd, False)  # by the other services
        self.fds = frozenset((*self._shelf.fds, *self._passed))
        self._closed = False

    def hand_down(self, environment: dict[str, str]) -> None:
        """In the forked child that becomes the API server."""
        for fd in self.fds:
            os.set_inheritable(fd, True)
        into, out = self._shelf.fds
        environment[ENVIRONMENT] = f"{into},{out}"
        if self._passed:
            environment["LISTEN_PID"] = str(os.getpid())

    def close(self) -> None:
        """Clients are refused from now on; again is no error."""
        if self._closed:
            return
        self._closed = True
        self._shelf.close()
        for path in self._paths:
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    os.unlink(path)
