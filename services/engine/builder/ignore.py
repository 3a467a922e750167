"""``.dockerignore``: which names of a context do not belong to it."""

from __future__ import annotations

from reexec.helpers.patterns import Exclusions
from services.protocol.errors import InvalidParameter


class Ignore(Exclusions):
    """Of the file's *text*."""

    def __init__(self, text: str) -> None:
        """Raises ``InvalidParameter`` ("syntax error in pattern", "illegal exclusion pattern ...")."""
        lines = [line for line in text.removeprefix("\ufeff").splitlines() if not line.startswith("#")]
        if any(line.strip() == "!" for line in lines):
            raise InvalidParameter('illegal exclusion pattern: "!"')
        super().__init__(line for line in lines if line.strip())
