"""Reads a command line as dockerd does (the syntax and the error texts of Go's pflag).

``--flag value``, ``--flag=value``, ``-f value``, ``-fvalue``, ``-f=value``; a switch stands alone
or has ``=true``/``=false``; short switches may be joined (``-Dl debug``); lists and maps add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.engine.config.option import Adds, Option
from services.engine.config.options import BY_FLAG, BY_SHORT


class UsageError(ValueError):
    """The command line cannot be understood."""


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Flag name -> value, for the flags that were given. Raises :class:`UsageError`."""
    found: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--" or not word.startswith("-") or word == "-":
            if word == "--" and not rest:
                break
            raise UsageError('"wharfd" accepts no arguments.')
        if word.startswith("--"):
            _long(word, rest, found)
        else:
            _short(word, rest, found)
    return found


def _long(word: str, rest: list[str], found: dict[str, Any]) -> None:
    name, equals, value = word[2:].partition("=")
    option = BY_FLAG.get(name)
    if not name:
        raise UsageError(f"bad flag syntax: {word}")
    if option is None:
        raise UsageError(f"unknown flag: --{name}")
    if not equals:
        if not option.kind.word:
            value = "true"
        elif rest:
            value = rest.pop(0)
        else:
            raise UsageError(f"flag needs an argument: --{name}")
    _add(option, value, found)


def _short(word: str, rest: list[str], found: dict[str, Any]) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = BY_SHORT.get(letter)
        if option is None:
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
        if letters.startswith("="):
            value, letters = letters[1:], ""
        elif not option.kind.word:
            value = "true"
        elif letters:
            value, letters = letters, ""
        elif rest:
            value = rest.pop(0)
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {word}")
        _add(option, value, found)


def _add(option: Option, text: str, found: dict[str, Any]) -> None:
    try:
        value = option.kind.parse(text)
    except ValueError as error:
        raise UsageError(f'invalid argument "{text}" for "{option.label}" flag: {error}') from None
    if option.kind.adds is Adds.APPENDS:
        value = found.get(option.flag, []) + value
    elif option.kind.adds is Adds.MERGES:
        value = found.get(option.flag, {}) | value
    found[option.flag] = value
