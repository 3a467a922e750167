"""Path patterns as Go's ``filepath.Match`` has them: ``*`` and ``?`` stop at a slash, names that begin
with a dot are no exception, ``[^a]`` negates, a backslash takes a character's meaning away."""

from __future__ import annotations

import re
from collections.abc import Callable

from services.protocol.errors import InvalidParameter


def is_pattern(text: str) -> bool:
    return any(char in text for char in "*?[\\")


def compile_pattern(pattern: str, *, recursive: bool = False) -> Callable[[str], bool]:
    """With *recursive* ``**`` matches any number of directories (``.dockerignore``).

    Raises ``InvalidParameter`` ("syntax error in pattern").
    """
    out, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if recursive and pattern.startswith("**", at - 1):
            directories = pattern.startswith("/", at + 1)
            out += "(?:.*/)?" if directories else ".*"
            at += 2 if directories else 1
        elif char == "*":
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            part, at = _class(pattern, at)
            out += part
        elif char == "\\":
            if at == len(pattern):
                raise InvalidParameter("syntax error in pattern")
            out += re.escape(pattern[at])
            at += 1
        else:
            out += re.escape(char)
    compiled = re.compile(out, re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


def _class(pattern: str, at: int) -> tuple[str, int]:
    """The class that begins behind a bracket at *at*, and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    body = ""
    while at < len(pattern) and (pattern[at] != "]" or not body):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at) and not pattern.startswith("-]", at):
            high, at = _member(pattern, at + 1)
        if low > high:
            raise InvalidParameter("syntax error in pattern")
        body += f"{re.escape(low)}-{re.escape(high)}"
    if at >= len(pattern) or not body:
        raise InvalidParameter("syntax error in pattern")
    return f"(?!/)[{'^' if negated else ''}{body}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern.startswith("\\", at):
        at += 1
    if at >= len(pattern):
        raise InvalidParameter("syntax error in pattern")
    return pattern[at], at + 1
