"""Changes of networks that are tried with the engine killed in the middle (``test_crash_points_network``).

``web`` runs in ``kept`` and in the default bridge, ``peer`` in ``kept``. The network ``a-point`` is
the first by name: who joins it has its default route and its ports there from then on.
"""

from __future__ import annotations

from tests.e2e.operations import Operation

_POINT = (
    "network",
    "create",
    "--subnet",
    "10.213.7.0/24",
    "-o",
    "com.docker.network.bridge.name={bridge}p",
    "a-point",
)
_SLEEP = ("busybox", "sleep", "1000")
_PORTS = ("-p", "{tcp}:80", "-p", "{tcp}:53/udp", "-p", "127.0.0.1:{range}:81", "-p", "82")
_RUN = ("--name", "point", *_PORTS, "--network", "kept", "--network-alias", "pt", *_SLEEP)
_JOIN = ("network", "connect", "--alias", "joined", "--ip", "10.213.7.77", "a-point")
_LEAVE = ("network", "disconnect", "a-point")
_REMOVE, _NETWORK_REMOVE = ("rm", "-f", "point"), ("network", "rm", "a-point")
_STOPPED = (_POINT, ("create", *_RUN), (*_JOIN, "point"))
_STARTED = (*_STOPPED, ("start", "point"))
_GONE = (_REMOVE, _NETWORK_REMOVE)

NETWORKS = (
    Operation("network-create", _POINT, finish=(_NETWORK_REMOVE,)),
    Operation("network-create-internal", ("network", "create", "--internal", "a-point"),
              finish=(_NETWORK_REMOVE,)),
    Operation("network-rm", _NETWORK_REMOVE, (_POINT,), finish=(_NETWORK_REMOVE,)),
    Operation("network-prune", ("network", "prune", "-f"), (_POINT,), finish=(_NETWORK_REMOVE,)),
    Operation("connect", (*_JOIN, "web"), (_POINT,), finish=((*_LEAVE, "web"), _NETWORK_REMOVE)),
    Operation("disconnect", (*_LEAVE, "web"), (_POINT, (*_JOIN, "web")),
              finish=((*_LEAVE, "web"), _NETWORK_REMOVE)),
    Operation("connect-stopped", (*_JOIN, "point"), (_POINT, ("create", *_RUN)),
              finish=(("start", "point"), *_GONE)),
    Operation("disconnect-stopped", (*_LEAVE, "point"), _STOPPED, finish=(("start", "point"), *_GONE)),
    Operation("run-ports", ("run", "-d", *_RUN), finish=(_REMOVE,)),
    Operation("run-joined", ("run", "-d", "--name", "point", "--network", "container:web", *_SLEEP),
              finish=(_REMOVE,)),
    Operation("start-ports", ("start", "point"), _STOPPED, finish=_GONE),
    Operation("stop-ports", ("stop", "-t", "0", "point"), _STARTED, finish=_GONE),
    Operation("restart-ports", ("restart", "-t", "0", "point"), _STARTED, finish=_GONE),
    Operation("rm-ports", ("rm", "-f", "point"), _STARTED, finish=_GONE),
)  # fmt: skip
