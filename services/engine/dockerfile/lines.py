"""Physical lines to logical ones: byte order mark, directives, comments, continuation, heredocs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from services.engine.dockerfile.forms import SyntaxProblem
from services.engine.dockerfile.heredocs import Heredoc, on_line

_DIRECTIVE = re.compile(r"^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = ("escape", "syntax", "check")
#: Bytes of the longest line: what dockerd's scanner takes, without the line feed.
_LONGEST = (64 << 10) - 1


@dataclass(frozen=True)
class LogicalLine:
    """``number`` is that of the first physical line, from 1; ``text`` has no continuation left."""

    number: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass
class Source:
    lines: list[LogicalLine] = field(default_factory=list)
    escape: str = "\\"
    #: Texts of lines that had an empty line inside a continuation.
    warnings: list[str] = field(default_factory=list)


def read(text: str, escape: str = "") -> Source:
    """Raises :class:`SyntaxProblem`. With *escape* it is a part of a file, without directives."""
    physical = text.removeprefix("\ufeff").split("\n")
    source = Source(escape=escape or "\\")
    start = 0 if escape else _directives([line.removesuffix("\r") for line in physical], source)
    short = _short(physical)
    _Joiner(physical[:short], source).run(start)
    if short < len(physical) and source.lines:
        raise SyntaxProblem(f"dockerfile line greater than max allowed size of {_LONGEST}")
    return source


def _short(physical: list[str]) -> int:
    """How many lines come before the first that is too long."""
    for index, line in enumerate(physical):
        if len(line) * 4 > _LONGEST and len(line.encode("utf-8", "surrogateescape")) > _LONGEST:
            return index
    return len(physical)


def _directives(physical: list[str], source: Source) -> int:
    """Take the parser directives at the top; returns the index behind them."""
    seen: set[str] = set()
    for index, line in enumerate(physical):
        match = _DIRECTIVE.match(line)
        if match is None or match[1].lower() not in _DIRECTIVES:
            return index
        name, value = match[1].lower(), match[2]
        if name in seen:
            raise SyntaxProblem(f"only one {name} parser directive can be used")
        seen.add(name)
        if name == "escape":
            if value not in ("\\", "`"):
                raise SyntaxProblem(f"invalid escape token '{value}' does not match ` or \\")
            source.escape = value
    return len(physical)


class _Joiner:
    def __init__(self, physical: list[str], source: Source) -> None:
        self._physical = physical
        self._source = source
        token = re.escape(source.escape)
        self._continues = re.compile(rf"(?:(?<=[^{token}])|^){token}[ \t]*$")

    def run(self, index: int) -> None:
        while index < len(self._physical):
            line = self._line(index).lstrip()
            if not line or line.startswith("#"):
                index += 1
                continue
            first = index
            text, index = self._join(line, index + 1)
            heredocs, index = self._heredocs(text, index)
            if text.strip():
                self._source.lines.append(LogicalLine(first + 1, text.rstrip(), heredocs))

    def _line(self, index: int) -> str:
        return self._physical[index].removesuffix("\r")

    def _join(self, line: str, index: int) -> tuple[str, int]:
        """The logical line that begins with *line*, and the index behind it."""
        text, more = self._strip(line)
        had_empty = False
        while more and index < len(self._physical):
            line = self._line(index)
            index += 1
            if line.lstrip().startswith("#"):
                continue
            if not line.strip():
                # A line feed at the end of the file begins no line.
                had_empty = had_empty or index < len(self._physical)
                continue
            part, more = self._strip(line)
            text += part
        if had_empty:
            self._source.warnings.append(text.rstrip())
        return text, index

    def _strip(self, line: str) -> tuple[str, bool]:
        match = self._continues.search(line)
        return (line, False) if match is None else (line[: match.start()], True)

    def _heredocs(self, text: str, index: int) -> tuple[tuple[Heredoc, ...], int]:
        """The here-documents that *text* begins with their content, and the index behind them."""
        words = text.split(None, 1)
        begun = on_line(words[0].lower(), words[1]) if len(words) == 2 else []
        found: list[Heredoc] = []
        for heredoc in begun:
            first = index
            while index < len(self._physical) and not heredoc.ends(self._line(index)):
                index += 1
            if index == len(self._physical):
                raise SyntaxProblem("unterminated heredoc")
            content = "".join(f"{line}\n" for line in self._physical[first:index])
            found.append(replace(heredoc, content=content))
            index += 1
        return tuple(found), index
