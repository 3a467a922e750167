"""Query parameters, read as dockerd reads them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

import falcon.asgi
import msgspec

from services.protocol.errors import InvalidParameter

_FALSE = ("", "0", "no", "false", "none")
_INT64 = 1 << 63
_PLATFORM = re.compile(r"[A-Za-z0-9_.-]+")


class Query:
    """The parameters of one request; of a repeated one the first counts."""

    def __init__(self, req: falcon.asgi.Request) -> None:
        text = req.query_string
        self._values = parse_qs(text, keep_blank_values=True) if text else {}

    def has(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        values = self._values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def flag(self, name: str, default: bool = False) -> bool:
        """moby ``httputils.BoolValue``: anything but five words is true."""
        if name not in self._values:
            return default
        return self.text(name).strip().lower() not in _FALSE

    def integer(self, name: str, default: int | None = None) -> int | None:
        """A number by ``strconv.Atoi``; absent or empty is *default*."""
        text = self.text(name)
        return default if not text else atoi(text)

    def dimension(self, name: str, what: str) -> int:
        """``h`` and ``w`` of a resize; *what* is height or width."""
        text = self.text(name)
        problem = "invalid syntax"
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit():
            if digits == text and int(text) < 1 << 32:
                return int(text) & 0xFFFF  # what a terminal takes
            problem = "value out of range"
        raise InvalidParameter(f'invalid resize {what} "{text}": {problem}')

    def platform(self) -> str:
        """``os[/arch[/variant]]``; its shape is checked here, what it means by the engine."""
        text = self.text("platform")
        parts = text.split("/")
        if text and (len(parts) > 3 or not all(_PLATFORM.fullmatch(part) for part in parts)):
            raise InvalidParameter(f'"{text}" is an invalid platform specifier')
        return text

    def filters(self, prefix: str = "") -> dict[str, list[str]]:
        """``filters`` in its map or its old list form."""
        text = self.text("filters")
        if not text:
            return {}
        try:
            return _filters(msgspec.json.decode(text))
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise InvalidParameter(f"{prefix}invalid filter") from None


def _filters(document: Any) -> dict[str, list[str]]:
    if document is None:
        return {}
    try:
        as_map = msgspec.convert(document, dict[str, dict[str, bool] | None])
        return {key: list(values or ()) for key, values in as_map.items()}
    except msgspec.ValidationError:
        as_list = msgspec.convert(document, dict[str, list[str] | None])
        return {key: list(values or ()) for key, values in as_list.items()}


def atoi(text: str) -> int:
    """Go's ``strconv.Atoi`` with its error."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
    number = int(text)
    if not -_INT64 <= number < _INT64:
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": value out of range')
    return number


_TIME_LIMIT = 2**63 - 1


def timestamp(name: str, text: str) -> int:
    """Unix seconds with an optional fraction, as nanoseconds; "" is 0. *name* is the quoted parameter.

    Source: moby ``daemon/internal/timestamp.ParseTimestamps``.
    """
    if not text:
        return 0
    seconds, _, fraction = text.partition(".")
    try:
        whole = atoi(seconds)
        nanos = int(fraction[:9].ljust(9, "0")) if fraction and atoi(fraction) >= 0 else 0
    except InvalidParameter as error:
        part = "seconds" if f'"{seconds}"' in str(error) else "nanoseconds"
        value = seconds if part == "seconds" else fraction
        reason = str(error).rsplit(": ", 1)[1]
        raise InvalidParameter(
            f'invalid value for {name}: invalid timestamp "{text}": invalid {part} "{value}": {reason}'
        ) from None
    # Beyond what 64 bits of nanoseconds hold (the year 2262), one time is as good as another.
    return max(-_TIME_LIMIT, min(whole * 1_000_000_000 + nanos, _TIME_LIMIT))
