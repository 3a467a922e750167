"""Filters of volumes: list and prune."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from services.protocol.api.volumes import Volume
from services.protocol.errors import InvalidParameter

Filters = Mapping[str, Sequence[str]]
Selector = Callable[[Volume], bool]

_LIST = ("dangling", "driver", "label", "name")
_PRUNE = ("all", "label", "label!")
_ANONYMOUS = "com.docker.volume.anonymous"


def _check(filters: Filters, known: Sequence[str]) -> None:
    for name in filters:
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name}'")


def _boolean(filters: Filters, name: str) -> bool | None:
    values = list(filters.get(name, ()))
    if not values:
        return None
    if values in (["true"], ["1"]):
        return True
    if values in (["false"], ["0"]):
        return False
    raise InvalidParameter(f"invalid filter '{name}=[{' '.join(values)}]'")


def _has_label(volume: Volume, text: str) -> bool:
    key, equals, value = text.partition("=")
    labels = volume.labels or {}
    return key in labels and (not equals or labels[key] == value)


def _matches(pattern: str, name: str) -> bool:
    try:
        return pattern == name or re.search(pattern, name) is not None
    except re.error:
        return False


def list_selector(filters: Filters, used: set[str]) -> Selector:
    """*used* are names of volumes that containers have. Raises ``InvalidParameter``."""
    _check(filters, _LIST)
    dangling = _boolean(filters, "dangling")
    drivers, labels, names = (filters.get(key, ()) for key in ("driver", "label", "name"))

    def selects(volume: Volume) -> bool:
        return (
            (dangling is None or (volume.name not in used) == dangling)
            and (not drivers or volume.driver in drivers)
            and all(_has_label(volume, text) for text in labels)
            and (not names or any(_matches(pattern, volume.name) for pattern in names))
        )

    return selects


def prune_selector(filters: Filters) -> Selector:
    """Raises ``InvalidParameter``."""
    _check(filters, _PRUNE)
    everything = _boolean(filters, "all") or False
    labels, unwanted = filters.get("label", ()), filters.get("label!", ())

    def selects(volume: Volume) -> bool:
        return (
            (everything or _has_label(volume, _ANONYMOUS))
            and all(_has_label(volume, text) for text in labels)
            and not any(_has_label(volume, text) for text in unwanted)
        )

    return selects
