"""The tokens of a template, as ``text/template/parse`` cuts it; positions are offsets of characters."""

from __future__ import annotations

import enum
import re
from collections.abc import Generator, Iterator
from typing import NamedTuple

from services.engine.containers.values import go_quote
from services.protocol.errors import Unimplemented

_SPACE = " \t\r\n"
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*|0[oO][0-7_]*|0[bB][01_]*|[0-9_]*)(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?i?"
)
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_CHARACTER = re.compile(r"'(?:[^'\\\n]|\\[^\n])*'")
_WORDS = frozenset(
    {"block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"}
)
#: Nested parentheses, which the parser and the evaluator follow by recursion.
_MAX_DEPTH = 50


class Kind(enum.Enum):
    TEXT = enum.auto()
    OPEN = enum.auto()
    CLOSE = enum.auto()
    SPACE = enum.auto()
    PIPE = enum.auto()
    LEFT = enum.auto()
    RIGHT = enum.auto()
    STRING = enum.auto()
    RAW = enum.auto()
    CHARACTER = enum.auto()
    NUMBER = enum.auto()
    BOOL = enum.auto()
    WORD = enum.auto()
    NAME = enum.auto()
    FIELD = enum.auto()
    DOT = enum.auto()
    VARIABLE = enum.auto()
    OTHER = enum.auto()
    END = enum.auto()


class Token(NamedTuple):
    kind: Kind
    text: str
    at: int

    def __str__(self) -> str:
        """As an error names it."""
        if self.kind is Kind.END:
            return "EOF"
        if self.kind in (Kind.WORD, Kind.DOT):
            return f"<{self.text}>"
        return go_quote(self.text[:10]) + "..." if len(self.text) > 10 else go_quote(self.text)


class TemplateError(Exception):
    """What is wrong, without the template's name and line; *at* is the offset of the problem."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


def tokens(text: str) -> Iterator[Token]:
    """The tokens, found when they are asked for: the first of several errors is the one that is told."""
    at, trim = 0, False
    while True:
        start = text.find("{{", at)
        end = len(text) if start < 0 else start
        trims = (
            start >= 0 and text[start + 2 : start + 3] == "-" and text[start + 3 : start + 4] in (*_SPACE,)
        )
        piece = text[at:end].lstrip(_SPACE) if trim else text[at:end]
        piece = piece.rstrip(_SPACE) if trims else piece
        if piece:
            yield Token(Kind.TEXT, piece, at)
        if start < 0:
            yield Token(Kind.END, "", len(text))
            return
        after = start + (4 if trims else 2)
        if text.startswith("/*", after):
            at, trim = _comment(text, after)
            continue
        yield Token(Kind.OPEN, "{{", start)
        at, trim = yield from _action(text, after)


def _comment(text: str, at: int) -> tuple[int, bool]:
    end = text.find("*/", at)
    if end < 0:
        raise TemplateError("unclosed comment", at)
    close = _close(text, end + 2)
    if close is None:
        raise TemplateError("comment ends before closing delimiter", at)
    return close


def _close(text: str, at: int) -> tuple[int, bool] | None:
    """Where the text goes on after a ``}}`` that stands at *at*, and whether it loses its leading space."""
    if text[at : at + 1] in (*_SPACE,) and text.startswith("-}}", at + 1):
        return at + 4, True
    return (at + 2, False) if text.startswith("}}", at) else None


def _action(text: str, at: int) -> Generator[Token, None, tuple[int, bool]]:
    """The tokens up to the next ``}}``; returns as :func:`_close`."""
    depth = 0
    while (close := _close(text, at)) is None:
        token = _token(text, at)
        depth += (token.kind is Kind.LEFT) - (token.kind is Kind.RIGHT)
        if depth < 0:
            raise TemplateError("unexpected right paren", at)
        if depth > _MAX_DEPTH:
            raise Unimplemented(f"more than {_MAX_DEPTH} nested parentheses are not supported here")
        yield token
        at += len(token.text)
    if depth:
        raise TemplateError("unclosed left paren", at)
    yield Token(Kind.CLOSE, "}}", at)
    return close


def _token(text: str, at: int) -> Token:
    if at >= len(text):
        raise TemplateError("unclosed action", at)
    first = text[at]
    if first in _SPACE:
        end = at
        while text[end : end + 1] in (*_SPACE,) and (end == at or _close(text, end) is None):
            end += 1
        return Token(Kind.SPACE, text[at:end], at)
    if first in "\"`'":
        return _quoted(text, at)
    if first.isdecimal() or first in "+-" or (first == "." and text[at + 1 : at + 2].isdecimal()):
        return _number(text, at)
    if first in ".$":
        return _field(text, at)
    if _is_name(first):
        return _name(text, at)
    return _mark(text, at)


def _mark(text: str, at: int) -> Token:
    first = text[at]
    if first == ":" and text[at + 1 : at + 2] != "=":
        raise TemplateError("expected :=", at)
    if not (first.isascii() and first.isprintable()):
        raise TemplateError(f"unrecognized character in action: {_code(first)}", at)
    kinds = {"|": Kind.PIPE, "(": Kind.LEFT, ")": Kind.RIGHT}
    return Token(kinds.get(first, Kind.OTHER), ":=" if first == ":" else first, at)


def _quoted(text: str, at: int) -> Token:
    if text[at] == "`":
        end = text.find("`", at + 1)
        if end < 0:
            raise TemplateError("unterminated raw quoted string", at)
        return Token(Kind.RAW, text[at : end + 1], at)
    pattern, kind, what = (
        (_QUOTED, Kind.STRING, "quoted string")
        if text[at] == '"'
        else (_CHARACTER, Kind.CHARACTER, "character constant")
    )
    match = pattern.match(text, at)
    if match is None:
        raise TemplateError(f"unterminated {what}", at)
    return Token(kind, match[0], at)


def _number(text: str, at: int) -> Token:
    match = _NUMBER.match(text, at)
    end = match.end() if match else at
    if end < len(text) and _is_name(text[end]):
        raise TemplateError(f"bad number syntax: {go_quote(text[at : end + 1])}", at)
    return Token(Kind.NUMBER, text[at:end], at)


def _word_end(text: str, at: int) -> int:
    """The end of a word, which only some characters may follow."""
    while at < len(text) and _is_name(text[at]):
        at += 1
    if at < len(text) and text[at] not in _SPACE + ".,|:)(" and not text.startswith("}}", at):
        raise TemplateError(f"bad character {_code(text[at])}", at)
    return at


def _field(text: str, at: int) -> Token:
    found = text[at : _word_end(text, at + 1)]
    if found == ".":
        return Token(Kind.DOT, found, at)
    return Token(Kind.FIELD if found[0] == "." else Kind.VARIABLE, found, at)


def _name(text: str, at: int) -> Token:
    found = text[at : _word_end(text, at)]
    kind = Kind.BOOL if found in ("true", "false") else Kind.WORD if found in _WORDS else Kind.NAME
    return Token(kind, found, at)


def _is_name(character: str) -> bool:
    return character == "_" or character.isalpha() or character.isdecimal()


def _code(character: str) -> str:
    """``%#U``."""
    shown = f" '{character}'" if character.isprintable() else ""
    return f"U+{ord(character):04X}{shown}"
