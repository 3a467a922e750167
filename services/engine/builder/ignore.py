"""``.dockerignore``: which names of a context do not belong to it."""

from __future__ import annotations

from reexec.helpers.patterns import Exclusions


class Ignore(Exclusions):
    """Of the file's *text*."""

    def __init__(self, text: str) -> None:
        """Raises ``InvalidParameter`` ("syntax error in pattern")."""
        lines = text.removeprefix("\ufeff").splitlines()
        super().__init__(line for line in lines if line.strip() and not line.startswith("#"))
