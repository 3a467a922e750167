"""Path patterns as Go's ``filepath.Match`` has them: ``*`` and ``?`` stop at a slash, names that begin
with a dot are no exception, ``[^a]`` negates, a backslash takes a character's meaning away."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from itertools import pairwise

from services.protocol.errors import InvalidParameter


def is_pattern(text: str) -> bool:
    return any(char in text for char in "*?[\\")


def compile_pattern(pattern: str, *, recursive: bool = False) -> Callable[[str], bool]:
    """With *recursive* ``**`` matches any number of directories (``.dockerignore``).

    Raises ``InvalidParameter`` ("syntax error in pattern").
    """
    items, at = [""], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if recursive and pattern.startswith("**", at - 1):
            directories = pattern.startswith("/", at + 1)
            wild = _DIRECTORIES if directories else _ANYTHING
            items += [] if items[-2:] == [wild, ""] else [wild, ""]
            at += 2 if directories else 1
        elif char == "*":
            items += [_NAME, ""]
        elif char == "?":
            items[-1] += _ONE
        elif char == "[":
            part, at = _class(pattern, at)
            items[-1] += part
        elif char == "\\":
            if at == len(pattern):
                raise InvalidParameter("syntax error in pattern")
            items[-1] += re.escape(pattern[at])
            at += 1
        else:
            items[-1] += re.escape(char)
    compiled = re.compile(_expression(items), re.DOTALL)
    return lambda path: compiled.fullmatch(path) is not None


#: A character of a name, and what comes before a class.
_ONE, _NO_SLASH = "[^/]", "(?!/)"
_NAME, _ANYTHING, _DIRECTORIES = "[^/]*", ".*", "(?:.*/)?"
_SHORTEST = {_NAME: "[^/]*?", _ANYTHING: ".*?", _DIRECTORIES: "(?:.*?/)??"}


def _expression(items: list[str]) -> str:
    """Of texts and, between them, wildcards.

    Where another wildcard can take all that is left over, the first place of what is between the two is as
    good as any, and is kept to (an atomic group): else a pattern of many wildcards would take for ever.
    """
    wide = [at for at in range(1, len(items), 2) if items[at] != _NAME]
    ends = [*wide, len(items)]
    out = _names(items[: ends[0]], items[ends[0]] if wide else "")
    for here, end in pairwise(ends):
        follows = items[end] if end < len(items) else ""
        part = _names(items[here + 1 : end], follows)
        if follows == _ANYTHING or (follows and items[end - 1].endswith("/")):
            out += f"(?>{_SHORTEST[items[here]]}{part})"
        else:
            out += items[here] + part
    return out


def _names(items: list[str], follows: str) -> str:
    """*items* without wide wildcards; the wildcard *follows* comes behind them."""
    out = items[0] if items else ""
    for at in range(1, len(items), 2):
        text = items[at + 1]
        last = at + 2 >= len(items)
        crosses = "/" in text.replace(_ONE, "").replace(_NO_SLASH, "")
        if not crosses and (not last or follows == _ANYTHING):
            out += f"(?>{_SHORTEST[_NAME]}{text})"
        else:
            out += _SHORTEST[_NAME] + text
    return out


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
    return f"{_NO_SLASH}[{'^' if negated else ''}{body}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern.startswith("\\", at):
        at += 1
    if at >= len(pattern):
        raise InvalidParameter("syntax error in pattern")
    return pattern[at], at + 1


class Exclusions:
    """A list of patterns (``.dockerignore``, ``--exclude``; moby ``patternmatcher``).

    The last one that matches a path, or one of its parents, decides; ``!`` takes it back.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises ``InvalidParameter`` ("syntax error in pattern")."""
        self._rules: list[tuple[Callable[[str], bool], bool]] = []
        for text in patterns:
            pattern = text.strip()
            kept = pattern.startswith("!")
            pattern = posixpath.normpath(pattern[1:].strip() if kept else pattern).lstrip("/")
            self._rules.append((compile_pattern(pattern, recursive=True), kept))
        #: Something below what is excluded may be wanted nevertheless.
        self.has_exceptions = any(kept for _, kept in self._rules)

    def excludes(self, path: str) -> bool:
        """Whether *path*, relative to the top, is left out."""
        if not self._rules:
            return False
        parts = path.split("/")
        prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        excluded = False
        for matches, kept in self._rules:
            if excluded == kept and any(matches(prefix) for prefix in prefixes):
                excluded = not kept
        return excluded
