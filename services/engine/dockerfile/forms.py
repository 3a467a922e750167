"""What arguments of several instructions have in common: flags before them, the JSON form."""

from __future__ import annotations

import json

#: Takes the meaning of the next character away inside a flag, whatever the escape directive says.
_ESCAPE = "\\"


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
    """The items of a JSON array of strings, None when it is anything else."""
    if not text.lstrip().startswith("["):
        return None
    try:
        items = json.loads(text)
    except ValueError:
        return None
    return items if all(isinstance(item, str) for item in items) else None
