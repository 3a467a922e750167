"""Events of containers: every one carries name, image and labels."""

from __future__ import annotations

from services.engine.containers.model import Entry
from services.engine.containers.services import Services


def announce(services: Services, entry: Entry, action: str, **attributes: str) -> None:
    """Publish the container event *action*; *attributes* come on top of the labels."""
    definition = entry.definition
    merged = dict(definition.config.labels or {}) | attributes
    if definition.config.image:
        merged["image"] = definition.config.image
    merged["name"] = definition.name
    services.events.publish("container", action, definition.id, merged)
