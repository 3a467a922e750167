"""The engine's side of ``docker-proxy``: one helper, told of the ports it serves.

It is forked by the zygote when there is a first port for it. If it dies, another one takes over with
the same sockets, which the engine keeps.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable
from pathlib import Path

from services.engine.networks.firewall import PortRule
from services.engine.networks.ports import HostPorts
from services.protocol import fdpass
from services.protocol.errors import WharfError
from services.protocol.helpers import HelperRequest
from services.protocol.relay import RelayAdd, RelayRemove

log = logging.getLogger(__name__)


class Relay:
    """Used in the network thread, and by the loop for the helper's death."""

    def __init__(self, zygote: Path, ports: HostPorts) -> None:
        self._zygote = zygote
        self._host_ports = ports
        self._rules: set[PortRule] = set()
        self._connection: socket.socket | None = None
        self._control: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop that notices the helper's death."""
        self._loop = loop

    def change(self, remove: Iterable[PortRule], add: Iterable[PortRule]) -> None:
        gone = set(remove) & self._rules
        new = set(add) - (self._rules - gone)
        self._rules = (self._rules - gone) | new
        try:
            if self._control is None:
                if self._rules:
                    self._start()
                return
            for rule in gone - new:
                fdpass.send(self._control, RelayRemove(_key(rule)))
            for rule in new:
                self._add(self._control, rule)
        except (OSError, WharfError) as error:
            log.warning("docker-proxy does not listen (%s); another one is started", error)
            self._restart()

    def close(self) -> None:
        """The helper ends with its connections."""
        self._rules.clear()
        self._drop()

    def _start(self) -> None:
        connection = fdpass.connect(self._zygote)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fdpass.send(connection, HelperRequest(["docker-proxy"], ["control"]), [theirs.fileno()])
        self._connection, self._control = connection, ours
        for rule in self._rules:
            self._add(ours, rule)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.add_reader, connection.fileno(), self._ended)

    def _add(self, control: socket.socket, rule: PortRule) -> None:
        held = self._host_ports.held(rule.protocol, rule.host_ip, rule.host_port)
        if held is None:
            return  # another program took it while the engine was away; that is in the log
        message = RelayAdd(_key(rule), rule.protocol, rule.container_ip, rule.container_port)
        fdpass.send(control, message, [held.fileno()])

    def _ended(self) -> None:
        """On the loop: the helper's connection says something, which is its end."""
        if self._rules:
            log.warning("docker-proxy ended; another one is started")
            self._restart()
        else:
            self._drop()

    def _restart(self) -> None:
        self._drop()
        try:
            self._start()
        except (OSError, WharfError) as error:
            log.error("published ports are not reached by IPv6: docker-proxy cannot be started: %s", error)
            self._drop()

    def _drop(self) -> None:
        connection, control = self._connection, self._control
        self._connection = self._control = None
        if control is not None:
            control.close()
        if connection is None:
            return
        if self._loop is None or self._loop.is_closed():
            connection.close()
        else:
            self._loop.call_soon_threadsafe(_forget, self._loop, connection)


def _forget(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    loop.remove_reader(connection.fileno())
    connection.close()


def _key(rule: PortRule) -> str:
    return f"{rule.protocol} {rule.host_ip} {rule.host_port}"
