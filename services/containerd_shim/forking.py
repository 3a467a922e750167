"""What the task service and its zygote say to each other, over a SEQPACKET socket pair::

    task service                      zygote
       | -- ForkShim(seq) + listener --> |  forks the shim, which serves the listener
       | <------------ Forked(seq) ----- |
       | -- Reclaim(seq) --------------> |  forks a child that ends what a dead shim left
       | <------------ Forked(seq) ----- |  when that child has ended

The zygote ends when the service's end is closed.
"""

from __future__ import annotations

import msgspec

from services.protocol.errors import Failure


class ForkShim(msgspec.Struct, tag="fork-shim", frozen=True):
    """``request`` is a serialised StartShimRequest; the descriptor is the shim's listening socket."""

    seq: int
    directory: str
    request: bytes


class Reclaim(msgspec.Struct, tag="reclaim", frozen=True):
    """Kill the container of a shim that died, free its cgroups, record its end."""

    seq: int
    directory: str


class Forked(msgspec.Struct, frozen=True):
    seq: int
    pid: int = 0
    failure: Failure | None = None


ToZygote = ForkShim | Reclaim
