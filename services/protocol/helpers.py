"""Asking the zygote for a forked reexec helper, over ``<exec-root>/zygote.sock`` (SEQPACKET).

One connection is one helper::

    engine or apiserver               zygote
       | -- HelperRequest + fds -------> |  forks; the child owns the connection
       | <------------- HelperExit ----- |  the helper returned; EOF without it: it was killed

Closing the connection early kills the helper (it holds a parent-death watch on it), unless it is a
lasting one. As a hand-over target (``Handover.socket``), the payload is an encoded HelperRequest and
the descriptor of the client's connection arrives as the helper's descriptor named ``client``.
"""

from __future__ import annotations

import msgspec

from services.protocol.errors import Failure


class HelperRequest(msgspec.Struct, tag="helper", frozen=True):
    """``argv[0]`` names the helper (``docker-untar``); ``fds`` names the passed descriptors in order.

    Known names: ``stdin``, ``stdout``, ``stderr`` (become 0, 1, 2); others are given to the
    helper by name through :mod:`reexec.command`. ``private_mounts`` runs it in a mount
    namespace of its own, with all propagation off. ``lasting`` lets it live on when the connection
    is closed, in a session of its own.
    """

    argv: list[str]
    fds: list[str] = []
    env: dict[str, str] = {}
    private_mounts: bool = False
    lasting: bool = False


class HelperExit(msgspec.Struct, frozen=True):
    """``result`` is helper-defined msgpack (empty for plain commands)."""

    status: int
    result: bytes = b""
    failure: Failure | None = None
