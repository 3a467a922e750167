"""Which cgroup hierarchies this host has mounted, and where (cgroups(7))."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

#: Options of a v1 mount's super block that are not controllers.
_NOT_CONTROLLERS = {
    "rw",
    "ro",
    "xattr",
    "noprefix",
    "clone_children",
    "cpuset_v2_mode",
    "favordynmods",
    "none",
}


@dataclass(frozen=True)
class Hierarchies:
    """``v1`` maps a controller (or ``name=systemd``) to its mount point; ``v2`` is the unified one.

    With any v1 controller mounted the host is "legacy" or "hybrid" and containers use v1.
    """

    v1: dict[str, str] = field(default_factory=dict)
    v2: str | None = None

    @property
    def version(self) -> int:
        return 1 if any(not name.startswith("name=") for name in self.v1) else 2


def parse(mountinfo: str) -> Hierarchies:
    """Read the text of ``/proc/self/mountinfo``; the first mount of a hierarchy counts."""
    v1: dict[str, str] = {}
    v2: str | None = None
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        mount_point = head.split()[4].replace("\\040", " ")
        kind, _source, options = tail.split(" ", 2)
        if kind == "cgroup2":
            v2 = v2 or mount_point
        elif kind == "cgroup":
            for option in options.split(","):
                if option in _NOT_CONTROLLERS or option.startswith("release_agent="):
                    continue
                v1.setdefault(option, mount_point)
    return Hierarchies(v1, v2)


def detect() -> Hierarchies:
    return parse(Path("/proc/self/mountinfo").read_text())
