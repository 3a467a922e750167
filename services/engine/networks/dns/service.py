"""The DNS servers of all sandboxes that have one."""

from __future__ import annotations

import asyncio
import logging
import socket

from services.engine.networks.dns.forward import Forwarder
from services.engine.networks.dns.names import Names
from services.engine.networks.dns.server import Server, Sockets
from services.engine.networks.model import SandboxRecord
from services.engine.networks.namespace import inside
from services.engine.networks.sandboxes import Sandboxes
from services.protocol.errors import SystemError_

log = logging.getLogger(__name__)


class DnsService:
    """One container's calls come one after the other."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._names = Names(sandboxes)
        self._servers: dict[str, Server] = {}
        self._host: Forwarder | None = None

    async def start(self, sandbox: SandboxRecord, pid: int) -> None:
        """Serve *sandbox*, if it has a resolver; its sockets are made in the namespace of *pid*."""
        if sandbox.resolver is None or sandbox.container_id in self._servers:
            return
        try:
            sockets = await asyncio.to_thread(inside, pid, Sockets)
        except OSError as error:
            raise SystemError_(f"embedded DNS server: {error.strerror}") from error
        self._servers[sandbox.container_id] = Server(
            sockets, sandbox, pid, self._names, self._host_forwarder()
        )

    async def stop(self, container_id: str) -> None:
        if (server := self._servers.pop(container_id, None)) is not None:
            await server.close()

    async def close(self) -> None:
        for container_id in list(self._servers):
            await self.stop(container_id)
        if self._host is not None:
            self._host.close()

    def _host_forwarder(self) -> Forwarder:
        """For servers on the host's loopback."""
        if self._host is None:
            self._host = Forwarder(
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            )
        return self._host
