"""Events: made here, numbered, kept for a while, published on the PUB socket."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping

from msgspec import UNSET

from services.protocol.api.events import Actor, Event
from services.protocol.messages import Published
from services.protocol.verbs.system import History

#: Events kept for ``since``; dockerd keeps 256.
HISTORY_LIMIT = 1024


class Events:
    """``publish`` never blocks; *send* puts an event on the PUB socket."""

    def __init__(self, send: Callable[[Published], None]) -> None:
        self.boot = uuid.uuid4().hex
        self._send = send
        self._seq = 0
        self._history: deque[Published] = deque(maxlen=HISTORY_LIMIT)

    def publish(
        self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str], *, scope: str = "local"
    ) -> None:
        """*kind* is container, image, network, volume, daemon or builder (Event.Type)."""
        now = time.time_ns()
        event = Event(
            type_=kind,
            action=action,
            actor=Actor(id=actor_id, attributes=dict(attributes)),
            scope=scope,
            time=now // 1_000_000_000,
            time_nano=now,
        )
        if kind in ("container", "image"):
            event.status, event.id = action, actor_id
            event.from_ = attributes.get("image", UNSET) if kind == "container" else UNSET
        self._seq += 1
        published = Published(self.boot, self._seq, event)
        self._history.append(published)
        self._send(published)

    def history(self, since: int, until: int) -> History:
        """Kept events in [since, until] (Unix nanoseconds; until 0 is open; since 0: none)."""
        found = [
            item
            for item in self._history
            if since and item.event.time_nano >= since and (not until or item.event.time_nano <= until)
        ]
        return History(boot=self.boot, last_seq=self._seq, events=found)
