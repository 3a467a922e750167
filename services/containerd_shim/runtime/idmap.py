"""User namespace id maps (user_namespaces(7)), written by the parent into ``/proc/<pid>``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.protocol import oci
from services.protocol.errors import InvalidParameter


def check(uid: Sequence[oci.IDMapping], gid: Sequence[oci.IDMapping]) -> None:
    """A new user namespace needs both maps, or nothing in it would have an owner."""
    if not uid or not gid:
        raise InvalidParameter("user namespaces enabled, but no uid or gid mappings found")


def write(pid: int, uid: Sequence[oci.IDMapping], gid: Sequence[oci.IDMapping]) -> None:
    """Each map can be written once, in one write, before the process changes its ids."""
    for name, mapping in (("gid_map", gid), ("uid_map", uid)):
        lines = "".join(f"{entry.container_id} {entry.host_id} {entry.size}\n" for entry in mapping)
        Path(f"/proc/{pid}/{name}").write_text(lines)
