"""Verbs on the daemon itself."""

from __future__ import annotations

import msgspec

from services.protocol.messages import Published
from services.protocol.verbs import Nothing, Verb


class HistoryArgs(msgspec.Struct, frozen=True):
    """Unix nanoseconds; 0 is open."""

    since: int = 0
    until: int = 0


class History(msgspec.Struct, frozen=True):
    """``boot`` and ``last_seq`` say where the PUB stream goes on."""

    boot: str
    last_seq: int
    events: list[Published]


class DiskUsageArgs(msgspec.Struct, frozen=True):
    """``types``: container, image, volume, build-cache; empty is all."""

    types: list[str] = []


#: Info, Version and disk usage are documents only the engine fills and only a client reads: JSON.
INFO = Verb("system.info", Nothing, bytes)
VERSION = Verb("system.version", Nothing, bytes)
EVENTS = Verb("system.events", HistoryArgs, History)
DISK_USAGE = Verb("system.disk-usage", DiskUsageArgs, bytes)
