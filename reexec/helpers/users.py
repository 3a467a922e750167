"""``--chown`` of COPY and ADD: names of the root's own files to ids (moby ``builder/dockerfile``)."""

from __future__ import annotations

from services.protocol.errors import InvalidParameter

_REFUSAL = "unable to convert uid/gid chown string to host mapping: "


def ids_of(text: str) -> tuple[int, int]:
    """(uid, gid) of "user[:group]"; a user alone names the group as well. Raises ``InvalidParameter``."""
    if text.count(":") > 1:
        raise InvalidParameter(f"{_REFUSAL}invalid chown string format: {text}")
    user, colon, group = text.partition(":")
    return _id("/etc/passwd", user, "user", "uid"), _id(
        "/etc/group", group if colon else user, "group", "gid"
    )


def _id(path: str, name: str, what: str, kind: str) -> int:
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            rows = [line.rstrip("\n").split(":") for line in file]
    except OSError:
        rows = []
    for row in rows:
        if len(row) > 2 and row[0] == name and row[2].isdigit():
            return int(row[2])
    raise InvalidParameter(f"{_REFUSAL}can't find {kind} for {what} {name}: no such {what}: {name}")
