"""The event loop of shims and zygote: epoll, timers, child exits. One thread, no tasks.

A shim is one of hundreds and mostly asleep; this loop costs a few kilobytes where asyncio costs
megabytes, and nothing runs between the handlers.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import sys
import time
import traceback

# signal.signal wraps this in conversions to enums, which cost a forked process 200 KB of its own.
from _signal import signal as _set_handler  # type: ignore[import-not-found]
from collections import deque
from collections.abc import Callable

IN = select.EPOLLIN
OUT = select.EPOLLOUT
HUP = select.EPOLLHUP | select.EPOLLERR
READ_HUP = select.EPOLLRDHUP

Handler = Callable[[int], None]

_SIGCHLD = int(signal.SIGCHLD)


class Timer:
    """A call to come; ``cancel`` forgets it."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """Level-triggered. A handler gets the ready events; what it raises is printed, not fatal."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[Timer] = []
        self._soon: deque[Callable[[], None]] = deque()
        self._stopped = False

    def add(self, fd: int, events: int, handler: Handler) -> None:
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget *fd* (before it is closed); unknown ones are ignored."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def soon(self, callback: Callable[[], None]) -> None:
        """After the handlers that are ready now."""
        self._soon.append(callback)

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Until :meth:`stop`."""
        while not self._stopped:
            for fd, events in self._epoll.poll(self._timeout()):
                self._handle(fd, events)
            self._run_timers()
            for _ in range(len(self._soon)):
                self._call(self._soon.popleft())

    def _handle(self, fd: int, events: int) -> None:
        """A handler that ran before may have removed *fd*."""
        if (handler := self._handlers.get(fd)) is None:
            return
        try:
            handler(events)
        except Exception:
            traceback.print_exc(file=sys.stderr)

    def _timeout(self) -> float | None:
        if self._soon:
            return 0
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        return max(self._timers[0].when - time.monotonic(), 0) if self._timers else None

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].when <= now:
            callback = heapq.heappop(self._timers).callback
            if callback is not None:
                self._call(callback)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            traceback.print_exc(file=sys.stderr)

    def abandon(self) -> None:
        """Close it without running anything: in a forked child that makes a loop of its own."""
        self._epoll.close()
        self._handlers.clear()
        self._timers.clear()
        self._soon.clear()


def watch_children(loop: Loop, on_exit: Callable[[int, int], None]) -> None:
    """Reap every child and tell *on_exit* its pid and exit code (128 + n when killed by signal n).

    Reaping happens in the loop and nowhere else, so a child that dies while a handler is still
    starting it is told of after the handler knows its pid.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    set_handler(_SIGCHLD, _ignore)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def reap(_: int = 0) -> None:
        try:
            os.read(reader, 4096)
        except BlockingIOError:
            pass
        while (ended := _wait()) is not None:
            on_exit(*ended)

    loop.add(reader, IN, reap)
    loop.soon(reap)


def _wait() -> tuple[int, int] | None:
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return None
    if info is None:
        return None
    code = info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status
    return info.si_pid, code


def _ignore(_signal: int, _frame: object) -> None:
    """A handler, not SIG_IGN: handlers are reset by execve, ignored signals stay ignored."""


def set_handler(number: int, handler: Callable[[int, object], None] | int) -> None:
    """What *number* does; 0 is the default action."""
    _set_handler(number, handler)


def ignore_signals(*signals: int) -> None:
    """Survive *signals* without passing that on to executed programs."""
    for number in signals:
        set_handler(number, _ignore)
