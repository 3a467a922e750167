"""HEALTHCHECK: its options and its test. Texts are buildkit's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import UNSET

from services.engine.containers.values import go_quote
from services.protocol.api.containers import HealthConfig
from services.protocol.errors import InvalidParameter

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([^.\d]*)")
_MILLISECOND = 10**6
_INTEGER = re.compile(r"[+-]?[0-9]{1,4000}")
_INT32 = 1 << 31


def healthcheck(args: Sequence[str], flags: Mapping[str, list[str]], *, is_json: bool) -> HealthConfig:
    """Raises ``InvalidParameter``."""
    kind = args[0].upper()
    if kind == "NONE":
        return HealthConfig(test=["NONE"])
    test = ["CMD", *args[1:]] if is_json else ["CMD-SHELL", *args[1:]]
    config = HealthConfig(test=test)
    for name in ("interval", "timeout", "start-period", "start-interval"):
        if name in flags and flags[name][0] and (value := _duration(name, flags[name][0])):
            setattr(config, name.replace("-", "_"), value)
    if "retries" in flags and flags["retries"][0] and (retries := _retries(flags["retries"][0])):
        config.retries = retries
    return config


def described(config: HealthConfig) -> str:
    """Go's ``%+v`` of the pointer, as the history has it."""

    def value(number: object) -> int:
        return number if isinstance(number, int) else 0

    test = " ".join(config.test if isinstance(config.test, list) else [])
    return (
        f"&{{Test:[{test}] Interval:{go_duration(value(config.interval))} "
        f"Timeout:{go_duration(value(config.timeout))} StartPeriod:{go_duration(value(config.start_period))} "
        f"StartInterval:{go_duration(value(config.start_interval))} Retries:{value(config.retries)}}}"
    )


def inherit(config: HealthConfig, before: HealthConfig) -> HealthConfig:
    """*config* with what it leaves open from the image's."""
    for name in HealthConfig.__struct_fields__:
        if getattr(config, name) is UNSET:
            setattr(config, name, getattr(before, name))
    return config


def _duration(name: str, text: str) -> int:
    """Nanoseconds of a Go duration, at least a millisecond; 0 is none."""
    value = parse_go_duration(text)
    if value and value < _MILLISECOND:
        raise InvalidParameter(f'Interval "{name}" cannot be less than 1ms')
    return value


def parse_go_duration(text: str) -> int:
    """Nanoseconds; raises ``InvalidParameter`` with the texts of Go's ``time.ParseDuration``."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    parts = _PART.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    value = 0.0
    for number, unit in parts:
        if unit not in _UNITS:
            problem = f'unknown unit "{unit}"' if unit else "missing unit"
            raise InvalidParameter(f'time: {problem} in duration "{text}"')
        value += float(number) * _UNITS[unit]
    return int(-value if text.startswith("-") else value)


def go_duration(value: int) -> str:
    """Nanoseconds as Go prints a ``time.Duration``."""
    if value == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if value < size * 1000:
            return f"{value / size:.9f}".rstrip("0").rstrip(".") + unit
    seconds, rest = divmod(value, 10**9)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds + rest / 10**9:.9f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + text


def _retries(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise InvalidParameter(f"strconv.ParseInt: parsing {go_quote(text)}: invalid syntax")
    value = int(text)
    if not -_INT32 <= value < _INT32:
        raise InvalidParameter(f'strconv.ParseInt: parsing "{text}": value out of range')
    if value < 0:
        raise InvalidParameter(f"--retries cannot be negative ({value})")
    return value
