"""``/etc/hosts`` of a running container, which is bind-mounted there: it is written in place."""

from __future__ import annotations

import os
from collections.abc import Callable


def edit(path: str, without: Callable[[str], bool], line: str) -> None:
    """Lines that *without* is true of leave the file, and *line* ("" for none) comes to its end.

    One write, which a crash comes before or after: what is shorter is filled up with empty lines first,
    so that no part of an old line is seen before the file is cut.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    with open(descriptor, "r+b", buffering=0) as file:
        old = file.readall() or b""
        lines = old.decode(errors="surrogateescape").splitlines(keepends=True)
        kept = [one for one in lines if not without(one)]
        if kept and line and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        new = ("".join(kept) + line).encode(errors="surrogateescape")
        if new == old:
            return
        os.pwrite(descriptor, new + b"\n" * (len(old) - len(new)), 0)
        os.ftruncate(descriptor, len(new))
