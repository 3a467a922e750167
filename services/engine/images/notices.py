"""Image events: who did what to which image, with its labels."""

from __future__ import annotations

from services.engine.events import Events
from services.engine.images.model import Record


class Notices:
    def __init__(self, events: Events) -> None:
        self._events = events

    def publish(self, action: str, record: Record, name: str = "") -> None:
        """*name* is the reference concerned; the image's id where there is none.

        Of an image that is gone nobody knows the labels any more.
        """
        labels = {} if action == "delete" else record.labels
        attributes = {**labels, "name": name or record.id}
        self._events.publish("image", action, record.id, attributes)

    def pruned(self, freed: int) -> None:
        """*freed* in bytes."""
        self._events.publish("image", "prune", "", {"reclaimed": str(freed)})
