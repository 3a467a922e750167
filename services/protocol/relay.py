"""Messages between the engine and the ``docker-proxy`` helper, over a SEQPACKET connection.

::

    engine                            docker-proxy
       | -- RelayAdd + fd ------------> |   serves the socket from now on; replaces the same key
       | -- RelayRemove + fd ---------> |   stops; its connections end; then it closes the descriptor, by
       |                                |   which the engine sees that the port is free

The helper outlives the engine while it has ports to serve: containers do, too. The next engine
connects to the helper's own socket (``listener``), takes over the ports, and tells on as above::

    engine                            docker-proxy
       | -- connects ---------------->  |   an engine before it is not heard any more
       | <---------- RelayAdd + fd ---- |   for each port, its socket
       | <---------------- RelayReady - |

Without an engine and without ports the helper ends; and without an engine when the socket at the path it
was given as its argument is not its own any more.
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


class RelayReady(msgspec.Struct, tag="ready", frozen=True):
    """That were all."""


RelayMessage = RelayAdd | RelayRemove
RelayState = RelayAdd | RelayReady
