"""The usage text, laid out as dockerd's."""

from __future__ import annotations

from importlib import metadata

from services.engine.config.option import Option
from services.engine.config.options import OPTIONS

_COLUMN = 46
#: A line is cut at the last space before _WIDTH, unless all that is left fits with _SLOP more.
_WIDTH = 28
_SLOP = 5


def usage() -> str:
    lines = ["Usage:\twharfd [OPTIONS]", "", "A self-sufficient runtime for containers.", "", "Options:"]
    for option in OPTIONS:
        lines += _lines(option)
    return "\n".join(lines)


def version() -> str:
    try:
        return f"wharfd version {metadata.version('wharfd')}"
    except metadata.PackageNotFoundError:
        return "wharfd version unknown (run from a source tree)"


def _lines(option: Option) -> list[str]:
    short = f"-{option.short}, " if option.short else "    "
    name = f"  {short}--{option.flag}" + (f" {option.kind.word}" if option.kind.word else "")
    text = _wrap(option.usage + _default(option))
    first = f"{name:<{_COLUMN - 1}} {text[0]}" if text else name
    return [first] + [" " * _COLUMN + line for line in text[1:]]


def _wrap(text: str) -> list[str]:
    lines = []
    while len(text) >= _WIDTH + _SLOP:
        space = text.rfind(" ", 0, _WIDTH)
        if space <= 0:
            break
        lines.append(text[:space])
        text = text[space + 1 :]
    return [*lines, text]


def _default(option: Option) -> str:
    if option.shown:
        return f" (default {option.shown})"
    value = option.default
    if value in ("", 0, [], {}) or value is False:
        return ""
    if isinstance(value, bool):
        return " (default true)"
    if option.kind.word == "string":
        return f' (default "{value}")'
    return f" (default {value})"
