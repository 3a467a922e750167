"""The events of all shims, merged for every subscriber."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from services.protocol import task_pb2 as pb

#: Events kept per container besides exits.
KEPT_PER_CONTAINER = 64


class EventHub:
    """Keeps what the shims keep: an exit until the process is deleted, the rest for a while."""

    def __init__(self) -> None:
        self._kept: dict[str, list[pb.Envelope]] = {}
        self._subscribers: set[asyncio.Queue[pb.Envelope]] = set()

    def publish(self, envelope: pb.Envelope) -> None:
        kept = self._kept.setdefault(envelope.id, [])
        if kept and envelope.timestamp <= kept[-1].timestamp:
            return  # sent again by a shim that was connected to again
        kept.append(envelope)
        if len(kept) > KEPT_PER_CONTAINER:
            for index, old in enumerate(kept):
                if not old.HasField("exit"):
                    del kept[index]
                    break
        for queue in self._subscribers:
            queue.put_nowait(envelope)

    def latest(self, container_id: str) -> int:
        """The timestamp of the last event that is kept of a container; 0 without one."""
        kept = self._kept.get(container_id)
        return kept[-1].timestamp if kept else 0

    def forget(self, container_id: str, exec_id: str = "") -> None:
        """The process was deleted: init with everything, an exec with its exit."""
        if not exec_id:
            self._kept.pop(container_id, None)
        elif container_id in self._kept:
            self._kept[container_id] = [
                each
                for each in self._kept[container_id]
                if not (each.HasField("exit") and each.exit.exec_id == exec_id)
            ]

    async def subscribe(self, since: int) -> AsyncIterator[pb.Envelope]:
        """Kept events later than *since*, in order; ``Synchronised``; then live ones, for ever.

        The exit of an init is kept until Delete and given whatever *since* says: with many shims
        an earlier event may have arrived after a later one of another.
        """
        queue: asyncio.Queue[pb.Envelope] = asyncio.Queue()
        self._subscribers.add(queue)
        try:
            kept = [each for events in self._kept.values() for each in events]
            for envelope in sorted(kept, key=lambda each: each.timestamp):
                if envelope.timestamp > since or (envelope.HasField("exit") and not envelope.exit.exec_id):
                    yield envelope
            yield pb.Envelope(synchronised=pb.Synchronised())
            while True:
                yield await queue.get()
        finally:
            self._subscribers.discard(queue)
