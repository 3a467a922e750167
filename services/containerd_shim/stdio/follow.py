"""Reading the log while it is written: ``logs``, ``logs --follow``, and attach with ``logs``.

A follower first reads the files. When it has caught up it lets go of them and is handed new records
as they are appended, rendered once for all followers that asked for the same; one whose client
falls behind goes back to the files. All in the shim's one thread, so there is no seam.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from services.containerd_shim.logdrivers.reader import LogReader
from services.containerd_shim.logdrivers.render import Renderer
from services.containerd_shim.logdrivers.sink import LogSink
from services.containerd_shim.loop import Loop, Timer
from services.containerd_shim.stdio.client import Client
from services.protocol.shim import ReadLogs


class LogHub:
    """All followers of one container's log."""

    def __init__(self, loop: Loop, sink: LogSink) -> None:
        self.loop = loop
        self.sink = sink
        self.ended = False
        self._live: set[Follower] = set()
        self._fresh: list[bytes] = []
        self._begin = (0, 0)
        sink.on_append = self._appended

    def _appended(self, records: bytes) -> None:
        """Before *records* are written."""
        if not self._live:
            return
        if not self._fresh:
            self._begin = (self.sink.files.generation, self.sink.files.size)
            self.loop.soon(self.hand_over)
        self._fresh.append(records)

    def hand_over(self) -> None:
        """Hand the records of this round to the followers that have caught up."""
        records, self._fresh = b"".join(self._fresh), []
        if not records:
            return
        rendered: dict[ReadLogs, tuple[bytes, bool]] = {}
        for follower in list(self._live):
            if follower.client.blocked:
                self._live.discard(follower)
                follower.fall_back(self._begin)
                continue
            if follower.request not in rendered:
                renderer = follower.renderer
                rendered[follower.request] = (renderer.render(records), renderer.done)
            out, done = rendered[follower.request]
            follower.take(out, done)

    def caught_up(self, follower: Follower) -> None:
        """*follower* has read all that is in the files."""
        if self.ended:
            follower.finish()
        else:
            if self._fresh:  # it has read these already; keep it from getting them again
                self.hand_over()
            self._live.add(follower)

    def discard(self, follower: Follower) -> None:
        self._live.discard(follower)

    def end(self) -> None:
        """The log is complete: followers end when they have all of it."""
        self.ended = True
        if self._fresh:
            self.hand_over()
        for follower in list(self._live):
            follower.finish()
        self._live.clear()


class Follower:
    """One client's way through the log; *finished* is called at its end instead of closing it.

    *caught_up* is called when it has got what there was at the beginning: to go on to the very end, the
    caller has to hold the output back then, for a container may write faster than the client reads.
    """

    def __init__(
        self,
        hub: LogHub,
        client: Client,
        request: ReadLogs,
        finished: Callable[[], None] | None = None,
        caught_up: Callable[[], None] | None = None,
    ) -> None:
        self.request = request
        self.client = client
        self.renderer = Renderer(hub.sink.format, request)
        self._hub = hub
        self._finished = finished
        self._caught_up = caught_up
        # What was there when it was asked for: a container that writes fast would never let it end.
        # (An attach has to go on to the very place where its output begins.)
        if not request.follow:
            hub.sink.flush()
        files = hub.sink.files
        self._there = (files.generation, files.size)
        bounded = not request.follow and caught_up is None
        self._reader: LogReader | None = LogReader(files, request.tail, self._there if bounded else None)
        self._over = False
        self._follow = request.follow
        client.on_unblocked = self._go_on
        client.on_gone = self._gone
        self._timer: Timer | None = None
        if request.follow and request.until:
            self._timer = hub.loop.later(request.until / 1e9 - time.time(), self._until_reached)
        if request.delay:
            hub.loop.later(request.delay, self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        if not self.client.closed and not self._over and self._reader is not None:
            self._hub.loop.soon(self._step)

    def _step(self) -> None:
        """One piece of the files."""
        if self._reader is None or self._over or self.client.blocked:
            return
        self._hub.sink.flush()
        records = self._reader.read()
        if records:
            self.take(self.renderer.render(records), self.renderer.done)
            self._look_how_far()
            if not self.client.blocked:
                self._go_on()
        elif self._follow:
            self._reader.close()
            self._reader = None
            self._hub.caught_up(self)
        else:
            self.finish()

    def _until_reached(self) -> None:
        """Nothing that is written from now on is wanted; what has been, it may have yet to read."""
        self._follow = False
        self._hub.sink.flush()
        self._hub.hand_over()
        if self._reader is None:
            self.finish()

    def _look_how_far(self) -> None:
        if self._caught_up is None or self._reader is None:
            return
        if (self._reader.generation, self._reader.offset) >= self._there:
            caught_up, self._caught_up = self._caught_up, None
            caught_up()

    def take(self, out: bytes, done: bool) -> None:
        if out:
            self.client.write(out)
        if done:
            self.finish()

    def fall_back(self, place: tuple[int, int]) -> None:
        """Read on from the files at *place* (generation, offset) once the client takes more."""
        reader = LogReader(self._hub.sink.files, 0)
        reader.generation, reader.offset = place
        self._reader = reader
        if not self.client.blocked:
            self._go_on()

    def finish(self) -> None:
        if self._over:
            return
        self._stop()
        if self._finished is not None:
            self._finished()
        else:
            self.client.end()

    def _gone(self) -> None:
        self._stop()

    def _stop(self) -> None:
        self._over = True
        self._hub.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
