"""The mode of a bind (``ro,z,rslave,nocopy``): which words there are and what they say.

moby ``daemon/volume/mounts/linux_parser.go``: at most one word of each group.
"""

from __future__ import annotations

PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
DEFAULT_PROPAGATION = "rprivate"
_GROUPS = (
    frozenset({"ro", "rw"}),
    frozenset({"z", "Z"}),
    PROPAGATIONS,
    frozenset({"nocopy"}),
    frozenset({"consistent", "cached", "delegated", "default"}),
)


def is_valid(mode: str) -> bool:
    if not mode:
        return True
    words = mode.split(",")
    if not all(any(word in group for group in _GROUPS) for word in words):
        return False
    return all(sum(word in group for word in words) <= 1 for group in _GROUPS)


def is_writable(mode: str) -> bool:
    return "ro" not in mode.split(",")


def propagation(mode: str) -> str:
    """ "" when the mode names none."""
    return next((word for word in mode.split(",") if word in PROPAGATIONS), "")


def no_copy(mode: str) -> bool:
    return "nocopy" in mode.split(",")
