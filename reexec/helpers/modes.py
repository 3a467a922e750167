"""``--chmod`` of COPY and ADD: octal, or symbolic as chmod(1) reads it, with a umask of 0."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from services.protocol.errors import InvalidParameter

#: From permission bits and whether it is a directory to permission bits.
Change = Callable[[int, bool], int]

_OCTAL = re.compile(r"0*[0-7]{1,4}")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_SET_ID = {"u": stat.S_ISUID, "g": stat.S_ISGID, "o": 0}


def parse_mode(text: str) -> Change:
    """Raises ``InvalidParameter``."""
    if _OCTAL.fullmatch(text):
        bits = int(text, 8)
        return lambda mode, directory: bits
    clauses = [_CLAUSE.fullmatch(clause) for clause in text.split(",")]
    steps: list[tuple[str, str, str]] = []
    for clause in clauses:
        if clause is None:
            raise InvalidParameter(
                f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, or "
                "symbolic"
            )
        who = "ugo" if not clause[1] or "a" in clause[1] else clause[1]
        steps += [(who, action[1], action[2]) for action in _ACTION.finditer(clause[2])]

    def change(mode: int, directory: bool) -> int:
        for who, operator, wanted in steps:
            mode = _apply(mode, directory, who, operator, wanted)
        return mode

    return change


def _apply(mode: int, directory: bool, who: str, operator: str, wanted: str) -> int:
    bits, mask = 0, 0
    for one in set(who):
        bits |= _permissions(mode, directory, wanted) << _SHIFT[one]
        mask |= 7 << _SHIFT[one]
        if "s" in wanted:
            bits |= _SET_ID[one]
        # chmod(1) leaves a directory's set-id bits alone unless they are named.
        mask |= 0 if directory and "s" not in wanted else _SET_ID[one]
    if "t" in wanted:
        bits |= stat.S_ISVTX
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    return mode & ~(mask | (stat.S_ISVTX if "o" in who and not directory else 0)) | bits


def _permissions(mode: int, directory: bool, wanted: str) -> int:
    if wanted in _SHIFT:
        return mode >> _SHIFT[wanted] & 7
    bits = sum(bit for char, bit in _BITS.items() if char in wanted)
    executable = directory or mode & 0o111
    return bits | (1 if "X" in wanted and executable else 0)
