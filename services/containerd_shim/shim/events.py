"""What has happened to one container, kept for those who ask later.

Timestamps rise strictly, so that "later than" leaves nothing out and repeats nothing. The exit of
init is kept until the shim ends, that of an exec until the exec is deleted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from services.protocol import task_pb2 as pb

Subscriber = Callable[[pb.Envelope], None]


class EventLog:
    def __init__(self, container_id: str) -> None:
        self._id = container_id
        self._kept: list[pb.Envelope] = []
        self._subscribers: dict[object, Subscriber] = {}
        self._last = 0

    def _stamp(self) -> int:
        self._last = max(time.time_ns(), self._last + 1)
        return self._last

    def publish(self, **event: object) -> None:
        """``publish(exit=pb.TaskExit(...))``: keep it and tell every subscriber."""
        envelope = pb.Envelope(timestamp=self._stamp(), id=self._id, **event)  # type: ignore[arg-type]
        self._kept.append(envelope)
        for send in list(self._subscribers.values()):
            send(envelope)

    def forget_exec(self, exec_id: str) -> None:
        self._kept = [envelope for envelope in self._kept if _exec_of(envelope) != exec_id]

    def subscribe(self, key: object, since: int, send: Subscriber) -> None:
        """Kept events later than *since*, a ``Synchronised``, then live ones until unsubscribed."""
        for envelope in self._kept:
            if envelope.timestamp > since:
                send(envelope)
        send(pb.Envelope(timestamp=self._last, id=self._id, synchronised=pb.Synchronised()))
        self._subscribers[key] = send

    def unsubscribe(self, key: object) -> None:
        self._subscribers.pop(key, None)


def _exec_of(envelope: pb.Envelope) -> str:
    """The exec an event is about; "" for the container's own events."""
    kind = envelope.WhichOneof("event")
    if kind in ("exit", "exec_started", "detached"):
        return str(getattr(envelope, kind).exec_id)
    return ""
