"""``/etc/hosts`` and ``/etc/resolv.conf`` of a running container: bind-mounted there, written in place."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable

log = logging.getLogger(__name__)


def edit(path: str, without: Callable[[str], bool], line: str) -> None:
    """Lines that *without* is true of leave the file, and *line* ("" for none) comes to its end."""

    def change(old: bytes) -> bytes:
        lines = old.decode(errors="surrogateescape").splitlines(keepends=True)
        kept = [one for one in lines if not without(one)]
        if kept and line and not kept[-1].endswith("\n"):
            kept[-1] += "\n"
        return ("".join(kept) + line).encode(errors="surrogateescape")

    _change(path, change)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def replace(path: str, known: str, content: str) -> None:
    """*content* for what has the digest *known*; what somebody has edited stays as it is."""
    _change(path, lambda old: content.encode() if digest(old) == known else old)


def _change(path: str, change: Callable[[bytes], bytes]) -> None:
    """One write, which a crash comes before or after: what is shorter is filled up with empty lines first,
    so that no part of an old line is seen before the file is cut. A file that cannot be written is left.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    with open(descriptor, "r+b", buffering=0) as file:
        old = file.readall() or b""
        new = change(old)
        if new == old:
            return
        try:
            os.pwrite(descriptor, new + b"\n" * (len(old) - len(new)), 0)
            os.ftruncate(descriptor, len(new))
        except OSError as error:  # the disk is full; the container is in the network all the same
            log.error("%s: %s", path, error)
