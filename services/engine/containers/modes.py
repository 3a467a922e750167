"""The textual modes of HostConfig (network, ipc, pid, uts, cgroupns): what they mean.

One place for the prefixes, so that nobody else compares strings (moby
``api/types/container/hostconfig.go``).
"""

from __future__ import annotations

_CONTAINER = "container:"


def joined_container(mode: str) -> str | None:
    """What follows ``container:`` in any mode; None when the mode joins nobody."""
    return mode[len(_CONTAINER) :] if mode.startswith(_CONTAINER) else None


def is_default_network(mode: str) -> bool:
    return mode in ("", "default")


def is_user_defined_network(mode: str) -> bool:
    """The name or id of a network that a user made."""
    return mode not in ("", "default", "bridge", "host", "none") and joined_container(mode) is None


def has_own_network(mode: str) -> bool:
    """The container has a network namespace of its own."""
    return mode != "host" and joined_container(mode) is None


def network_name(mode: str) -> str:
    """The network that *mode* connects to first; "" when it joins another container's."""
    if joined_container(mode) is not None:
        return ""
    return "bridge" if is_default_network(mode) else mode


def valid_ipc(mode: str) -> bool:
    return mode in ("", "none", "private", "shareable", "host") or bool(joined_container(mode))


def valid_pid(mode: str) -> bool:
    return mode in ("", "host") or bool(joined_container(mode))


def valid_uts(mode: str) -> bool:
    return mode in ("", "host")


def valid_userns(mode: str) -> bool:
    return mode in ("", "host")


def valid_cgroupns(mode: str) -> bool:
    return mode in ("", "private", "host")
