"""How the last removed containers ended, for requests that come again after an engine restart."""

from __future__ import annotations

from collections import OrderedDict

from services.engine.containers.model import Entry
from services.protocol.api.containers import WaitReply

#: Containers remembered.
_REMEMBERED = 1024


def wait_reply(entry: Entry) -> WaitReply:
    """How *entry* ended, as ``wait`` says it; a failed start is told to who asked for it, not here."""
    return WaitReply(status_code=entry.state.exit_code)


class Removed:
    """By id, name, or an id prefix of at least twelve digits."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._replies: OrderedDict[str, tuple[str, WaitReply]] = OrderedDict()

    def add(self, entry: Entry) -> None:
        self._replies[entry.id] = (entry.definition.name, wait_reply(entry))
        if len(self._replies) > self._limit:
            self._replies.popitem(last=False)

    def find(self, ref: str) -> WaitReply | None:
        if (found := self._replies.get(ref)) is not None:
            return found[1]
        for container_id, (name, answer) in reversed(self._replies.items()):
            if ref.removeprefix("/") == name or (len(ref) >= 12 and container_id.startswith(ref)):
                return answer
        return None
