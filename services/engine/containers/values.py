"""Values as Go's strconv and Docker's units read them."""

from __future__ import annotations

import re

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtTpP])?(i?[bB])?\Z", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHORT = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def regexp_problem(pattern: str, error: re.error) -> str:
    """What Go's ``regexp`` says of a pattern that Python's refuses with *error*."""
    at = error.pos or 0
    for text, problem, place in (
        ("unterminated subpattern", "missing closing )", pattern),
        ("unbalanced parenthesis", "unexpected )", pattern),
        ("unterminated character set", "missing closing ]", pattern[at:]),
        ("nothing to repeat", "missing argument to repetition operator", pattern[at : at + 1]),
        ("bad escape (end of pattern)", "trailing backslash at end of expression", ""),
    ):
        if text in error.msg:
            return f"error parsing regexp: {problem}: `{place}`"
    return f"error parsing regexp: {error}"


def parse_bool(text: str) -> bool:
    """``strconv.ParseBool``; raises ``ValueError``."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def ram_in_bytes(text: str) -> int:
    """``units.RAMInBytes``: ``64m``, ``1GiB``, ``10``; raises ``ValueError`` with its text."""
    match = _SIZE.match(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    return int(float(match[1]) * 1024 ** _UNITS[(match[2] or "").lower()])


def int64(number: int) -> int:
    """What Go's int64 holds of *number*: arithmetic that overflows goes round."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def go_quote(text: str) -> str:
    """*text* as Go's ``%q`` prints it, for the characters that occur in names and paths."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_CONTROL.sub(_escaped, escaped)}"'


def _escaped(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\x{ord(match[0]):02x}"
