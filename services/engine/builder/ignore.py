"""``.dockerignore``: which names of a context do not belong to it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

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


def leave_out(directory: Path, ignore: Ignore, needed: set[str]) -> None:
    """Delete what *ignore* excludes below *directory*, but for *needed*. No link is followed."""
    pending, excluded = [""], list[str]()
    while pending:
        relative = pending.pop()
        for entry in list(os.scandir(directory / relative)):
            name = os.path.join(relative, entry.name)
            if entry.is_dir(follow_symlinks=False):
                pending.append(name)
                if ignore.excludes(name):
                    excluded.append(name)
            elif name not in needed and ignore.excludes(name):
                os.unlink(entry.path)
    for name in reversed(excluded):  # a directory is listed ahead of those in it
        with contextlib.suppress(OSError):  # something below it may be wanted
            os.rmdir(directory / name)
