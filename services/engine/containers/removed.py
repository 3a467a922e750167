"""How the last removed containers ended, for requests that come again after an engine restart."""

from __future__ import annotations

from collections import OrderedDict

#: Containers remembered.
LIMIT = 1024


class Removed:
    """Exit codes by id, name, or an id prefix of at least twelve digits."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._ended: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def add(self, container_id: str, name: str, exit_code: int) -> None:
        self._ended[container_id] = (name, exit_code)
        if len(self._ended) > self._limit:
            self._ended.popitem(last=False)

    def exit_code(self, ref: str) -> int | None:
        """Of the container removed last that *ref* names; None when none is remembered."""
        if (found := self._ended.get(ref)) is not None:
            return found[1]
        for container_id, (name, exit_code) in reversed(self._ended.items()):
            if ref.removeprefix("/") == name or (len(ref) >= 12 and container_id.startswith(ref)):
                return exit_code
        return None
