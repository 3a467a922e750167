"""Headers every answer carries, spelled and ordered as Go's ``net/http`` does."""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate

from services.protocol.release import API_VERSION, DOCKER_VERSION, dotted

STANDARD = {
    "Api-Version": dotted(API_VERSION),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Docker/{DOCKER_VERSION} ({platform.system().lower()})",
}
_STANDARD = [(name.encode(), value.encode()) for name, value in STANDARD.items()]


def announce_experimental() -> None:
    """The docker command offers some options only to such a daemon. To be called before the first answer."""
    STANDARD["Docker-Experimental"] = "true"
    _STANDARD[:] = [(name.encode(), value.encode()) for name, value in STANDARD.items()]


RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"


@functools.cache
def _canonical(name: bytes) -> bytes:
    return b"-".join(part.capitalize() for part in name.split(b"-"))


_date: tuple[int, bytes] = (0, b"")


def date() -> bytes:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]


def complete(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """*fields* with the standard ones, in Go's spelling, sorted."""
    own = [(_canonical(name), value) for name, value in fields]
    return sorted([*own, *_STANDARD, (b"Date", date())])


def head(status: str, fields: Mapping[str, str]) -> bytes:
    """The head of an answer that another process writes; *status* as in ``200 OK``."""
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name}: {value}" for name, value in {**fields, **STANDARD}.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def negotiate(accept: str, offers: Iterable[str], default: str) -> str:
    """Which of *offers* an ``Accept`` header prefers; *default* where it names none (Go's gddo)."""
    best, best_quality, best_wildness = default, -1.0, 3
    accepted = [_media_range(one) for one in accept.split(",") if one.strip()]
    for offer in offers:
        kinds = {offer: 0, offer.partition("/")[0] + "/*": 1, "*/*": 2}
        for media_type, quality in accepted:
            wildness = kinds.get(media_type, 3)
            if quality == 0 or quality < best_quality or wildness == 3:
                continue
            if quality > best_quality or wildness < best_wildness:
                best, best_quality, best_wildness = offer, quality, wildness
    return best


def _media_range(text: str) -> tuple[str, float]:
    media_type, *parameters = (part.strip() for part in text.split(";"))
    quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    try:
        return media_type.lower(), float(quality)
    except ValueError:
        return media_type.lower(), 0.0


def stream_type(tty: bool, version: tuple[int, int]) -> str:
    """Media type of a container's output; older clients know only the raw one."""
    return MULTIPLEXED_STREAM if not tty and version >= (1, 42) else RAW_STREAM
