"""Messages to the ``docker-proxy`` helper, over the descriptor named ``control`` (SEQPACKET).

::

    engine                            docker-proxy
       | -- RelayAdd + fd ------------> |   serves the socket from now on; replaces the same key
       | -- RelayRemove --------------> |   stops; its connections end

The helper ends when the other end of ``control`` is closed.
"""

from __future__ import annotations

import msgspec


class RelayAdd(msgspec.Struct, tag="add", frozen=True):
    """*fd* is a listening TCP or a bound UDP socket; ``address`` and ``port`` are the container's."""

    key: str
    protocol: str
    address: str
    port: int


class RelayRemove(msgspec.Struct, tag="remove", frozen=True):
    key: str


RelayMessage = RelayAdd | RelayRemove
