"""Which Docker this is to its clients, and which wharfd it is to itself."""

from __future__ import annotations

#: Version of wharfd itself.
WHARFD_VERSION = "0.1.0"
#: The Docker engine whose behaviour is followed; ``ServerVersion`` of /info and /version.
DOCKER_VERSION = "29.7.2"
#: Newest and oldest Engine API served, as (major, minor).
API_VERSION = (1, 56)
MIN_API_VERSION = (1, 24)


def dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
