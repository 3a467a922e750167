"""Path patterns as Go's ``filepath.Match`` has them: ``*`` and ``?`` stop at a slash, names that begin
with a dot are no exception, ``[^a]`` negates, a backslash takes a character's meaning away."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable

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
