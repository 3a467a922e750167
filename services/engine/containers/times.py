"""Times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from services.protocol.api.containers import ZERO_TIME

_SECOND = 1_000_000_000


def rfc3339(nanoseconds: int) -> str:
    """Unix nanoseconds as Go's ``time.RFC3339Nano`` in UTC; 0 is the zero time."""
    if not nanoseconds:
        return ZERO_TIME
    seconds, rest = divmod(nanoseconds, _SECOND)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{text}{fraction}Z"
