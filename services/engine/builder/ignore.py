"""``.dockerignore``: which names of a context do not belong to it (moby ``patternmatcher``)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable

from reexec.helpers.patterns import compile_pattern


class Ignore:
    """The last pattern that matches a path, or one of its parents, decides; ``!`` takes it back."""

    def __init__(self, text: str) -> None:
        """Raises ``InvalidParameter`` ("syntax error in pattern")."""
        self._rules: list[tuple[Callable[[str], bool], bool]] = []
        for line in text.removeprefix("\ufeff").splitlines():
            if line.startswith("#") or not line.strip():
                continue
            pattern = line.strip()
            kept = pattern.startswith("!")
            pattern = posixpath.normpath(pattern[1:].strip() if kept else pattern).lstrip("/")
            self._rules.append((compile_pattern(pattern, recursive=True), kept))

    def excludes(self, path: str) -> bool:
        """Whether *path*, relative to the context, does not belong to it."""
        parts = path.split("/")
        prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        excluded = False
        for matches, kept in self._rules:
            if excluded == kept and any(matches(prefix) for prefix in prefixes):
                excluded = not kept
        return excluded
