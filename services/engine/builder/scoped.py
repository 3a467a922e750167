"""Names inside a directory whose links mean nothing outside of it."""

from __future__ import annotations

import os
from pathlib import Path

from services.protocol.errors import InvalidParameter

#: Links that are followed in one path, as in the kernel.
_MAX_LINKS = 40


def resolve(root: Path, name: str) -> str:
    """*name* below *root* with links followed as if *root* were ``/``: nothing leads out of it.

    Nobody changes the tree meanwhile, so this is safe without a ``chroot``.
    """
    done, pending, links = "", [part for part in name.split("/") if part], 0
    while pending:
        part = pending.pop(0)
        if part == ".":
            continue
        if part == "..":
            done = os.path.dirname(done).rstrip("/")
            continue
        path = f"{root}{done}/{part}"
        if not os.path.islink(path):
            done += f"/{part}"
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InvalidParameter(f"too many links: {name}")
        target = os.readlink(path)
        pending = [piece for piece in target.split("/") if piece] + pending
        done = "" if target.startswith("/") else done
    return f"{root}{done}"
