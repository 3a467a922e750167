"""Here-documents: ``<<EOF`` on the line of a RUN, COPY or ADD, and the lines that follow it.

What counts as one is buildkit's rule (``parser.ParseHeredoc``): a word that begins with ``<<`` or with a
file descriptor's number and ``<<``. The delimiter ends where a shell would end it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from services.engine.dockerfile.forms import is_json_array, take_flags

_START = re.compile(r"(\d*)<<(-?)[ \t]*(?![<\s])")
_TABS = re.compile(r"^\t+", re.MULTILINE)
#: Ends a delimiter that is not quoted, besides white space.
_META = ";&|<>()"


@dataclass(frozen=True)
class Heredoc:
    """``expand``: no part of the delimiter is quoted; ``chomp``: leading tabs go (``<<-``).

    ``content`` is as in the file, every line with its end; :attr:`data` what it stands for.
    """

    name: str
    expand: bool = True
    chomp: bool = False
    content: str = ""

    @property
    def data(self) -> str:
        return _TABS.sub("", self.content) if self.chomp else self.content

    def ends(self, line: str) -> bool:
        """Whether *line* (without its end) is the last one."""
        return (line.lstrip("\t") if self.chomp else line) == self.name

    @property
    def following(self) -> str:
        """The lines that follow the instruction's, from the first to the delimiter."""
        return f"{self.content}{self.name}"


def on_line(name: str, rest: str) -> list[Heredoc]:
    """The here-documents that the arguments *rest* of instruction *name* begin, without content."""
    if "<<" not in rest:
        return []
    _, rest = take_flags(rest)
    if is_json_array(rest):
        return []
    if name == "run":
        return list(_in_shell(rest))
    if name in ("copy", "add"):
        return [one for word in rest.split() if (one := of_word(word)) is not None]
    if name == "onbuild":
        trigger, _, rest = rest.strip().partition(" ")
        return on_line(trigger.lower(), rest) if trigger.lower() != "onbuild" else []
    return []


def of_word(word: str) -> Heredoc | None:
    """The here-document that a whole word of COPY or ADD begins."""
    match = _START.match(word)
    if match is None:
        return None
    found, end = _delimiter(word, match)
    return found if end == len(word) else None


def _in_shell(text: str) -> Iterator[Heredoc]:
    """Of words of a shell command, outside of quotes."""
    at, quote, inside = 0, "", False
    while at < len(text):
        char = text[at]
        if char == "\\" and quote != "'":
            at, inside = at + 2, True
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote, inside = char, True
        elif text.startswith("<<<", at):
            at += len("<<<")  # a word that is the input
            continue
        elif not inside and (match := _START.match(text, at)) is not None:
            found, at = _delimiter(text, match)
            # ``$(( 1 << 2 ))`` shifts.
            if found is not None and (not found.expand or not found.name[0].isdigit()):
                yield found
            inside = True
            continue
        else:
            inside = not char.isspace() and char not in _META
        at += 1


def _delimiter(text: str, match: re.Match[str]) -> tuple[Heredoc | None, int]:
    """The here-document, None when its delimiter is empty or not closed, and where the word ends."""
    at, name, quote, quoted = match.end(), "", "", False
    while at < len(text):
        char = text[at]
        if quote:
            if char == quote:
                quote = ""
            else:
                name += char
        elif char in "\"'":
            quote, quoted = char, True
        elif char == "\\" and at + 1 < len(text):
            at, quoted = at + 1, True
            name += text[at]
        elif char.isspace() or char in _META:
            break
        else:
            name += char
        at += 1
    if quote or not name:
        return None, at
    return Heredoc(name, expand=not quoted, chomp=bool(match[2])), at
