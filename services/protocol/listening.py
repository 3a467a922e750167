"""The API's listening sockets outlive the API server: clients wait in them until the next one is there.

``wharfd`` makes a socket pair, which the API server inherits (``ENVIRONMENT`` has the descriptors of both
ends). The API server that makes the listening sockets sends them into it, in a message that nobody ever takes
out; a later one looks at it (``MSG_PEEK``), which gives it descriptors of the same sockets. What lies in the
pair is kept open by the kernel for as long as ``wharfd`` has the pair.

Imports little: the API server's arbiter is kept small.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence

ENVIRONMENT = "WHARFD_LISTENERS"
#: SCM_MAX_FD: what one message may carry.
_MOST = 253


class Shelf:
    """Both ends of the pair; close-on-exec."""

    def __init__(self, ends: tuple[socket.socket, socket.socket] | None = None) -> None:
        self._into, self._out = ends or socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    @classmethod
    def inherited(cls) -> Shelf | None:
        """That of the environment, which is taken out of it; None if this process has got none."""
        into, _, out = os.environ.pop(ENVIRONMENT, "").partition(",")
        if not out:
            return None
        ends = socket.socket(fileno=int(into)), socket.socket(fileno=int(out))
        for end in ends:
            end.set_inheritable(False)
        return cls(ends)

    @property
    def fds(self) -> tuple[int, int]:
        return self._into.fileno(), self._out.fileno()

    def put(self, sockets: Sequence[socket.socket]) -> None:
        """Once; the caller still owns the sockets."""
        fds = array.array("i", (sock.fileno() for sock in sockets))
        self._into.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])

    def look(self) -> list[socket.socket]:
        """The sockets, of which the caller gets descriptors of its own; empty before :meth:`put`."""
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        try:
            _, ancillary, _, _ = self._out.recvmsg(1, socket.CMSG_SPACE(_MOST * 4), flags)
        except BlockingIOError:
            return []
        fds = array.array("i")
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        return [socket.socket(fileno=fd) for fd in fds]

    def close(self) -> None:
        self._into.close()
        self._out.close()
