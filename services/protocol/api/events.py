"""Event documents (``GET /events``)."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field


class Actor(Struct, kw_only=True):
    id: str = field(name="ID", default="")
    attributes: dict[str, str] = field(name="Attributes", default_factory=dict)


class Event(Struct, kw_only=True):
    """``time`` is Unix seconds, ``time_nano`` nanoseconds. The lower-case fields are the old API's."""

    status: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    from_: str | UnsetType = field(name="from", default=UNSET)
    type_: str = field(name="Type")
    action: str = field(name="Action")
    actor: Actor = field(name="Actor")
    scope: str = "local"
    time: int
    time_nano: int = field(name="timeNano")
