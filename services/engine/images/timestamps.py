"""Points in time as filters write them: Unix time, RFC 3339 and its short forms, a Go duration ago.

moby ``api/types/time`` (``GetTimestamp``).
"""

from __future__ import annotations

import datetime as dt
import re

_DURATION = re.compile(r"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_FORMS = ("%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d")
_ZONE = re.compile(r"(.*T.*?)(Z|[-+]\d\d:\d\d)")


def parse_duration(text: str) -> float | None:
    """Seconds of a Go duration (``1h30m``); None if it is none."""
    if not _DURATION.fullmatch(text):
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return -seconds if text.startswith("-") else seconds


def parse_time(text: str, now: float) -> float:
    """Unix seconds; raises ``ValueError``. Times without a zone are local."""
    if (duration := parse_duration(text)) is not None:
        return now - duration
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    zone: dt.tzinfo | None = None
    if (match := _ZONE.fullmatch(text)) is not None:
        text, offset = match[1], match[2]
        zone = dt.UTC if offset == "Z" else dt.datetime.strptime(offset, "%z").tzinfo
    for form in _FORMS:
        try:
            return dt.datetime.strptime(text, form).replace(tzinfo=zone).timestamp()
        except ValueError:
            continue
    raise ValueError(f'failed to parse value as time or duration: "{text}"')


def rfc3339(nanoseconds: int) -> str:
    """Go's ``time.RFC3339Nano`` in UTC; 0 is Go's zero time."""
    if not nanoseconds:
        return "0001-01-01T00:00:00Z"
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    text = dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"
