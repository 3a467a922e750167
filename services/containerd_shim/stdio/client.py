"""One client's connection, as the shim writes to it and reads from it, without ever blocking."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable

from services.containerd_shim.loop import HUP, IN, OUT, Loop
from services.containerd_shim.stdio.framing import CHUNK_TAIL, LAST_CHUNK, chunk_head, header

#: Bytes of input read at once.
INPUT_SIZE = 64 * 1024
#: Seconds that a client may take nothing before it is given up, once its stream has ended.
FLUSH_TIMEOUT = 60.0
#: Seconds in which a client that has got everything may still send, before its connection is closed.
LINGER = 1.0

Buffer = bytes | memoryview


def _nothing() -> None:
    pass


class Client:
    """Output is written at once as far as the socket takes it; the rest waits in a backlog.

    While there is a backlog the client is ``blocked``, and whoever writes stops producing; when it
    is gone, ``on_unblocked`` is called. ``on_gone`` is called once, when nothing is written or read any
    more for whatever reason.
    """

    def __init__(self, loop: Loop, fd: int, *, chunked: bool = False, multiplexed: bool = False) -> None:
        self._loop = loop
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._fd = fd
        self._chunked = chunked
        self._multiplexed = multiplexed
        self._backlog: deque[Buffer] = deque()
        self._reading = False
        self._ending = False
        self.closed = False
        self.on_unblocked: Callable[[], None] = _nothing
        self.on_gone: Callable[[], None] = _nothing
        #: Called once, when its socket is closed: a process that ends before would close it too early.
        self.on_closed: Callable[[], None] = _nothing
        self.on_input: Callable[[bytes], None] = lambda data: None
        self.on_input_end: Callable[[], None] = _nothing
        #: Called when the reader of the input has room again, before input is read.
        self.on_room: Callable[[], None] = _nothing
        self.input_ended = False
        loop.add(fd, 0, self._ready)

    @property
    def blocked(self) -> bool:
        return bool(self._backlog)

    def read(self, wanted: bool) -> None:
        """Whether input is read now: given to ``on_input``, its end to ``on_input_end``."""
        if self._reading != wanted:
            self._reading = wanted
            self._watch()

    def frame(self, stream: int, data: bytes) -> None:
        """Output of *stream*, in a frame of its own if the client wants frames."""
        if self._multiplexed:
            self._write([header(stream, len(data)), data])
        else:
            self._write([data])

    def write(self, data: bytes) -> None:
        """Output that has its frames already."""
        self._write([data])

    def raw(self, data: bytes) -> None:
        """Bytes outside of any framing: the head of the response."""
        self._send([data])

    def end(self) -> None:
        """Close it when everything has been taken, at the latest after :data:`FLUSH_TIMEOUT`."""
        if self._ending or self.closed:
            return
        self._ending = True
        if self._chunked:
            self._send([LAST_CHUNK])
        if not self._backlog:
            self.close()
        else:
            self._loop.later(FLUSH_TIMEOUT, self.close)

    def close(self) -> None:
        """Close it now: nothing is written or read any more.

        A client that has got everything keeps its socket until it has seen that: what it sends
        meanwhile and nobody reads would become an error of its own reading (unix(7), tcp(7)).
        """
        if self.closed:
            return
        self.closed = True
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        if self._ending and not self._backlog and not self.input_ended:
            self._loop.modify(self._fd, IN)
            self._loop.later(LINGER, self._forget)
        else:
            self._forget()
        self._backlog.clear()
        self.on_gone()
        self.on_unblocked()

    def _forget(self) -> None:
        if self._fd >= 0:
            self._loop.remove(self._fd)
            self._socket.close()
            self._fd = -1
            self.on_closed()

    def _discard(self) -> None:
        """What a client sends after the end."""
        try:
            if os.read(self._fd, INPUT_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._forget()

    def _write(self, parts: list[Buffer]) -> None:
        if self._ending:
            return
        if self._chunked:
            size = sum(len(part) for part in parts)
            if not size:
                return
            parts = [chunk_head(size), *parts, CHUNK_TAIL]
        self._send(parts)

    def _send(self, parts: list[Buffer]) -> None:
        if self.closed:
            return
        if not self._backlog:
            try:
                written = os.writev(self._fd, parts)
            except BlockingIOError:
                written = 0
            except OSError:
                self.close()
                return
            for part in parts:
                if written >= len(part):
                    written -= len(part)
                else:
                    self._backlog.append(memoryview(part)[written:] if written else part)
                    written = 0
            if self._backlog:
                self._watch()
        else:
            self._backlog.extend(parts)

    def _watch(self) -> None:
        if not self.closed:
            self._loop.modify(self._fd, (IN if self._reading else 0) | (OUT if self._backlog else 0))

    def _ready(self, events: int) -> None:
        if self.closed:
            if self._fd >= 0:
                self._discard()
            return
        if events & OUT:
            self._flush()
        if events & IN and self._reading and not self.closed:
            self._receive()
        elif events & HUP and not self.closed:
            self.close()

    def _flush(self) -> None:
        while self._backlog:
            try:
                written = os.writev(self._fd, list(self._backlog)[:64])
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            while self._backlog and written >= len(self._backlog[0]):
                written -= len(self._backlog.popleft())
            if written:
                self._backlog[0] = memoryview(self._backlog[0])[written:]
        self._watch()
        if self._ending:
            self.close()
        else:
            self.on_unblocked()

    def _receive(self) -> None:
        try:
            data = os.read(self._fd, INPUT_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if data:
            self.on_input(data)
        else:
            self.read(False)
            self.input_ended = True
            self.on_input_end()
