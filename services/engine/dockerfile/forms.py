"""What arguments of several instructions have in common: flags before them, the JSON form."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from services.protocol.errors import InvalidParameter

#: Takes the meaning of the next character away inside a flag, whatever the escape directive says.
_ESCAPE = "\\"


class SyntaxProblem(InvalidParameter):
    """The file cannot be split into instructions; told with the file's name."""


def take_flags(rest: str) -> tuple[tuple[str, ...], str]:
    """Leading ``--name[=value]`` words; quotes may hold spaces. ``--`` alone ends them."""
    flags: list[str] = []
    rest = rest.lstrip()
    while rest.startswith("--"):
        word, rest = _flag_word(rest)
        rest = rest.lstrip()
        if word == "--":
            break
        flags.append(word)
    return tuple(flags), rest


def _flag_word(text: str) -> tuple[str, str]:
    quote, word, at = "", "", 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == _ESCAPE:
            word += text[at : at + 1]
            at += 1
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        elif not quote and char.isspace():
            return word, text[at - 1 :]
        else:
            word += char
    return word, ""


def json_list(text: str) -> list[str] | None:
    """The items of a JSON array of strings, None when it is no JSON array.

    Raises :class:`SyntaxProblem` for an array of anything else.
    """
    items = _json_array(text)
    if items is not None and not all(isinstance(item, str) for item in items):
        raise SyntaxProblem("when using JSON array syntax, arrays must be comprised of strings only")
    return items


def is_json_array(text: str) -> bool:
    """Of whatever."""
    return _json_array(text) is not None


def _json_array(text: str) -> list[Any] | None:
    text = text.lstrip()
    if not text.startswith("["):
        return None
    try:
        found: list[Any] = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return found


def _refuse(constant: str) -> NoReturn:
    """``NaN`` and ``Infinity`` are Python's."""
    raise ValueError(constant)
