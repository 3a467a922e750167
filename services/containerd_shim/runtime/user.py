"""Who a process runs as, looked up in the container's own ``/etc/passwd`` and ``/etc/group``.

The rules are Docker's (github.com/moby/sys/user, ``GetExecUser``): a number is always an id, a user
without a group takes the group and the supplementary groups of its passwd entry, an explicit group
takes neither. The primary group is always among the supplementary ones (CVE-2022-36109).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.containerd_shim.runtime import inroot
from services.protocol import oci
from services.protocol.errors import InvalidParameter

_MAX_ID = (1 << 31) - 1
_MAX_FILE = 16 << 20
_NUMBER = re.compile(r"[+-]?\d+\Z", re.ASCII)
_INT64 = 1 << 63


class UserRef(Protocol):
    """``task.proto``'s UserRef, or anything shaped like it."""

    @property
    def user(self) -> str: ...
    @property
    def additional_groups(self) -> Iterable[str]: ...


class Passwd(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class Group(NamedTuple):
    name: str
    gid: int
    members: list[str]


@dataclass(frozen=True)
class Identity:
    """``home`` is the passwd entry's; "/" without one."""

    uid: int
    gid: int
    groups: list[int]
    home: str = "/"


def _lines(root: int, path: str) -> list[list[str]]:
    """The fields of each line; none when the file is missing, not a file, or oversized."""
    try:
        fd = inroot.open_in(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return []
    try:
        text = _read(fd).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    finally:
        os.close(fd)
    return [line.strip().split(":") for line in text.splitlines() if line.strip()]


def _read(fd: int) -> bytes:
    parts = []
    left = _MAX_FILE
    while left > 0 and (data := os.read(fd, min(left, 1 << 16))):
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def _integer(text: str) -> int | None:
    """*text* as a 64-bit integer, as Go's Atoi takes it."""
    if not _NUMBER.match(text):
        return None
    value = int(text)
    return value if -_INT64 <= value < _INT64 else None


def _passwd(root: int) -> list[Passwd]:
    entries = []
    for fields in _lines(root, "/etc/passwd"):
        fields += [""] * (7 - len(fields))
        entries.append(Passwd(fields[0], _integer(fields[2]) or 0, _integer(fields[3]) or 0, fields[5]))
    return entries


def _group(root: int) -> list[Group]:
    entries = []
    for fields in _lines(root, "/etc/group"):
        fields += [""] * (4 - len(fields))
        entries.append(Group(fields[0], _integer(fields[2]) or 0, [m for m in fields[3].split(",") if m]))
    return entries


def _in_range(number: int) -> int:
    if not 0 <= number <= _MAX_ID:
        raise InvalidParameter(f"uids and gids must be in range 0-{_MAX_ID}")
    return number


def resolve(root: int, reference: UserRef) -> Identity:
    """The identity *reference* (``user[:group]``) has inside *root*.

    Raises InvalidParameter with Docker's texts: no matching entries, id out of range.
    """
    user_part, group_part = (*reference.user.split(":"), "")[:2]
    uid_number, gid_number = _integer(user_part), _integer(group_part)
    wanted_uid = 0 if not user_part else uid_number
    entry = next(
        (
            candidate
            for candidate in _passwd(root)
            if (candidate.uid == wanted_uid if wanted_uid is not None else candidate.name == user_part)
        ),
        None,
    )
    uid, gid, home, extra = 0, 0, "/", list[int]()
    if entry is not None:
        uid, gid, home = entry.uid, entry.gid, entry.home
    elif user_part:
        if uid_number is None:
            raise InvalidParameter(f"unable to find user {user_part}: no matching entries in passwd file")
        uid = _in_range(uid_number)
    groups = _group(root) if group_part or entry is not None or reference.additional_groups else []
    if group_part:
        gid = _group_id(groups, group_part, gid_number)
    elif entry is not None:
        extra = [group.gid for group in groups if entry.name in group.members]
    return Identity(uid, gid, _unique([gid, *extra, *_additional(groups, reference.additional_groups)]), home)


def _group_id(groups: Sequence[Group], text: str, number: int | None) -> int:
    for group in groups:
        if group.gid == number if number is not None else group.name == text:
            return group.gid
    if number is None:
        raise InvalidParameter(f"unable to find group {text}: no matching entries in group file")
    return _in_range(number)


def _additional(groups: Sequence[Group], names: Iterable[str]) -> list[int]:
    result = []
    for name in names:
        found = next((group.gid for group in groups if group.name == name or str(group.gid) == name), None)
        result.append(_group_id([], name, _integer(name)) if found is None else found)
    return result


def _unique(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def of_spec(root: int, user: oci.User) -> Identity:
    """The numbers of a spec's ``process.user``, with the home directory that passwd has for the uid."""
    home = next((entry.home for entry in _passwd(root) if entry.uid == user.uid), "/")
    return Identity(user.uid, user.gid, list(user.additional_gids), home)
