"""Which events a follower asked for; unknown keys select nothing and exclude nothing.

Source: moby ``daemon/events/filter.go`` and ``daemon/internal/filters``.
"""

from __future__ import annotations

import re

from services.protocol.api.events import Event

Filters = dict[str, list[str]]

_FUZZY_ACTIONS = {"health_status", "exec_create", "exec_start"}
_OBJECTS = ("daemon", "container", "plugin", "volume", "network", "node", "service", "secret", "config")


def matches(filters: Filters, event: Event) -> bool:
    return (
        _action(filters, event)
        and _exact(filters, "type", event.type_)
        and _exact(filters, "scope", event.scope)
        and all(_object(filters, kind, event) for kind in _OBJECTS if kind in filters)
        and _image(filters, event)
        and _labels(filters, event.actor.attributes)
    )


def _exact(filters: Filters, key: str, source: str) -> bool:
    values = filters.get(key)
    return not values or source in values


def _fuzzy(filters: Filters, key: str, source: str) -> bool:
    """Exact, or one of the values is a prefix."""
    values = filters.get(key)
    return not values or any(source.startswith(value) for value in values)


def _action(filters: Filters, event: Event) -> bool:
    if _FUZZY_ACTIONS & set(filters.get("event", ())):
        return _fuzzy(filters, "event", event.action)
    return _exact(filters, "event", event.action)


def _object(filters: Filters, kind: str, event: Event) -> bool:
    name = event.actor.attributes.get("name", "")
    return _fuzzy(filters, kind, event.actor.id) or _fuzzy(filters, kind, name)


def _image(filters: Filters, event: Event) -> bool:
    if not filters.get("image"):
        return True
    attribute = "name" if event.type_ == "image" else "image"
    name = event.actor.attributes.get(attribute, "")
    names = (event.actor.id, name, _without_tag(event.actor.id), _without_tag(name))
    return any(candidate in filters["image"] for candidate in names)


def _without_tag(reference: str) -> str:
    return re.sub(r"(@[^@]*)$|(:[^:/]*)$", "", reference)


def _labels(filters: Filters, labels: dict[str, str]) -> bool:
    """Every ``key`` or ``key=value`` must be there."""
    for wanted in filters.get("label", ()):
        key, has_value, value = wanted.partition("=")
        if key not in labels or (has_value and labels[key] != value):
            return False
    return True
