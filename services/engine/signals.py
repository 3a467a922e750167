"""Signal names and numbers as Docker's API takes them (``moby/sys/signal``)."""

from __future__ import annotations

import signal

from services.protocol.errors import InvalidParameter

_FIRST_REALTIME, _LAST_REALTIME = 34, 64


def _names() -> dict[str, int]:
    names = {item.name.removeprefix("SIG"): int(item) for item in signal.Signals}
    names |= {"CLD": int(signal.SIGCHLD), "IOT": int(signal.SIGABRT), "POLL": int(signal.SIGIO)}
    names |= {"UNUSED": 31, "STKFLT": 16}
    middle = (_FIRST_REALTIME + _LAST_REALTIME) // 2
    for number in range(_FIRST_REALTIME, _LAST_REALTIME + 1):
        up, down = number - _FIRST_REALTIME, _LAST_REALTIME - number
        names["RTMIN" + (f"+{up}" if up else "") if number <= middle else f"RTMAX-{down}"] = number
    names["RTMAX"] = _LAST_REALTIME
    names.pop("RTMAX-0", None)
    return names


NUMBERS = _names()
_KNOWN = frozenset(NUMBERS.values())


def parse(text: str) -> int:
    """``TERM``, ``sigterm`` or ``15``. A number is not checked: see :func:`is_supported`."""
    try:
        number = int(text)
    except ValueError:
        number = NUMBERS.get(text.upper().removeprefix("SIG"), 0)
    if number == 0:
        raise InvalidParameter(f"invalid signal: {text}")
    return number


def is_supported(number: int) -> bool:
    """Whether Linux has the signal *number*."""
    return number in _KNOWN
