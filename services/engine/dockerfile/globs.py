"""Shell patterns on strings, for ``${name#pattern}`` and its relatives."""

from __future__ import annotations

import re

from services.protocol.errors import InvalidParameter


def _regex(pattern: str, *, greedy: bool) -> str:
    """``*`` and ``?`` are all that is special; a backslash takes that away. Raises ``InvalidParameter``."""
    out, at, many = "", 0, ".*" if greedy else ".*?"
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 1
            after = pattern[at : at + 1]
            if after not in ("*", "?", "\\", "/", "}"):
                raise InvalidParameter(
                    f"invalid pattern ({pattern}) in substitution: invalid escape '\\{after}'"
                )
            out += re.escape(after)
        else:
            out += {"*": many, "?": "."}.get(char) or re.escape(char)
        at += 1
    return out


def strip_prefix(value: str, pattern: str, *, longest: bool) -> str:
    match = re.match(_regex(pattern, greedy=longest), value, re.DOTALL)
    return value[match.end() :] if match else value


def strip_suffix(value: str, pattern: str, *, longest: bool) -> str:
    starts = range(len(value) + 1) if longest else range(len(value), -1, -1)
    compiled = re.compile(_regex(pattern, greedy=True), re.DOTALL)
    for start in starts:
        if compiled.fullmatch(value, start):
            return value[:start]
    return value


def replace(value: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    compiled = re.compile(_regex(pattern, greedy=True), re.DOTALL)
    return compiled.sub(lambda _: replacement, value, count=0 if everywhere else 1)
