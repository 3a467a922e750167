"""The engine's events for any number of followers, without gaps.

One SUB socket feeds a hub; a follower is a queue. Events are numbered per engine process
(``boot``, ``seq``): after a lost message, and when the engine has greeted (after a reconnect, a restart of
the engine, at first), the hub asks for the history and closes the gap before it goes on. A follower that
wants the past asks for history itself and drops from its queue what it has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator

import msgspec
import zmq

from services.apiserver.client import Engine
from services.apiserver.link import Link
from services.protocol.api.events import Event
from services.protocol.errors import WharfError
from services.protocol.messages import EVENT_TOPIC, GREETING, Published, decode_published
from services.protocol.paths import ExecRoot
from services.protocol.verbs.system import EVENTS, History, HistoryArgs

log = logging.getLogger(__name__)

#: Events waiting for one slow follower; beyond it the follower is cut off.
BACKLOG = 10_000


class Numbered:
    """An event and its JSON, encoded once for all followers."""

    def __init__(self, published: Published) -> None:
        self.boot = published.boot
        self.seq = published.seq
        self.event = published.event
        self._json: dict[bool, bytes] = {}

    def json(self, *, legacy: bool) -> bytes:
        """With *legacy* also the fields of the old API (``status``, ``id``, ``from``)."""
        if legacy not in self._json:
            event = self.event if legacy else _without_legacy(self.event)
            self._json[legacy] = msgspec.json.encode(event)
        return self._json[legacy]


def _without_legacy(event: Event) -> Event:
    return Event(
        type_=event.type_,
        action=event.action,
        actor=event.actor,
        scope=event.scope,
        time=event.time,
        time_nano=event.time_nano,
    )


class Follower:
    """A queue of live events; ``None`` ends it (too slow, or the server is closing)."""

    def __init__(self) -> None:
        #: Unix nanoseconds; of what was missed, what is older is not for it.
        self.began = time.time_ns()
        self._queue: deque[Numbered | None] = deque()
        self._wakeup: asyncio.Future[None] | None = None

    def put(self, item: Numbered | None) -> None:
        self._queue.append(item if len(self._queue) < BACKLOG else None)
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    async def next(self) -> Numbered | None:
        while not self._queue:
            self._wakeup = asyncio.get_running_loop().create_future()
            await self._wakeup
        return self._queue.popleft()


class EventHub:
    def __init__(self, exec_root: ExecRoot, context: zmq.Context[zmq.Socket[bytes]], engine: Engine) -> None:
        self._engine = engine
        self._followers: set[Follower] = set()
        self._boot = ""
        self._seq = 0
        #: No follower is older than the hub.
        self._last_time = time.time_ns()
        #: Set while history is being fetched: live events wait here.
        self._held: list[Published] | None = None
        #: Another engine has come while history was being fetched.
        self._greeted_again = False
        self._resync: asyncio.Task[None] | None = None
        self._link = Link(
            context,
            zmq.SUB,
            exec_root.events_address,
            received=self._received,
            up=lambda: None,  # its subscription takes longer: the engine's greeting tells
            down=lambda: None,
            options={zmq.SUBSCRIBE: EVENT_TOPIC},
        )

    def open(self) -> None:
        self._link.open()

    def close(self) -> None:
        self._link.close()
        if self._resync is not None:
            self._resync.cancel()
        for follower in self._followers:
            follower.put(None)

    @property
    def followers(self) -> int:
        return len(self._followers)

    @contextlib.contextmanager
    def follow(self) -> Iterator[Follower]:
        follower = Follower()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def _received(self, frames: list[bytes]) -> None:
        if frames[-1] == GREETING:
            self._greeted()
            return
        published = decode_published(frames[-1])
        if self._held is not None:
            self._held.append(published)
        elif published.boot == self._boot and published.seq <= self._seq:
            return
        elif published.boot == self._boot and published.seq == self._seq + 1:
            self._deliver(published)
        else:
            self._held = [published]
            self._start_resync()

    def _greeted(self) -> None:
        if self._held is None:
            self._held = []
            self._start_resync()
        else:
            self._greeted_again = True

    def _start_resync(self) -> None:
        self._resync = asyncio.get_running_loop().create_task(self._catch_up(), name="events:catch-up")

    async def _catch_up(self) -> None:
        """Deliver what was missed, then what was held back meanwhile."""
        found: History | None = None
        try:
            found = await self._missed()
        except WharfError as error:
            log.warning("events may have been missed: %s", error)
        held, self._held = self._held or [], None
        if found is not None:
            self._take_over(found, [one for one in held if one.boot != found.boot])
            held = [one for one in held if one.boot == found.boot]
        for published in held:
            self._deliver_once(published)
        if self._greeted_again:
            self._greeted_again = False
            self._greeted()

    async def _missed(self) -> History:
        """What the engine has published since the last event that was delivered."""
        found = await self._engine.call(EVENTS, HistoryArgs(since=self._last_time))
        if self._boot and found.boot != self._boot:
            found = await self._engine.call(EVENTS, HistoryArgs(since=1))
        return found

    def _take_over(self, found: History, older: list[Published]) -> None:
        """*older* came from an engine that is gone; from now on its events are those after *found*."""
        for published in older:
            self._deliver_once(published)
        if self._boot != found.boot:
            self._boot = found.boot
            self._seq = found.events[0].seq - 1 if found.events else found.last_seq
        for published in found.events:
            self._deliver_once(published, late=True)

    def _deliver_once(self, published: Published, *, late: bool = False) -> None:
        if published.boot != self._boot or published.seq > self._seq:
            self._deliver(published, late=late)

    def _deliver(self, published: Published, *, late: bool = False) -> None:
        self._boot, self._seq = published.boot, published.seq
        self._last_time = published.event.time_nano
        item = Numbered(published)
        for follower in self._followers:
            if not late or follower.began <= self._last_time:
                follower.put(item)
