"""Where the processes of one daemon meet: sockets and directories below the exec root.

Every path is derived from ``--exec-root``, so that several daemons live side by side. Unix socket
addresses are limited to 107 bytes (unix(7)); :func:`services.protocol.fdpass.connect` and
``listen`` go through ``/proc/self/fd`` when a path is longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExecRoot:
    """The layout of an exec root (default ``/run/wharfd``), mode 0711, owned by root."""

    root: Path

    @property
    def engine_address(self) -> str:
        """ZeroMQ endpoint of the engine's ROUTER socket."""
        return f"ipc://{self.root}/engine.sock"

    @property
    def events_address(self) -> str:
        """ZeroMQ endpoint of the engine's PUB socket."""
        return f"ipc://{self.root}/events.sock"

    @property
    def engine_fds(self) -> Path:
        """SEQPACKET socket on which the engine accepts descriptors (request bodies)."""
        return self.root / "engine-fds.sock"

    @property
    def shim_service(self) -> Path:
        """Unix socket of the gRPC task service."""
        return self.root / "containerd-shim.sock"

    @property
    def zygote(self) -> Path:
        """SEQPACKET socket on which the zygote accepts helper requests."""
        return self.root / "zygote.sock"

    @property
    def relay(self) -> Path:
        """SEQPACKET socket on which ``docker-proxy`` accepts the next engine."""
        return self.root / "docker-proxy.sock"

    @property
    def shims(self) -> Path:
        """Parent of the state directories of the shims, one per container."""
        return self.root / "shims"

    def shim_dir(self, container_id: str) -> Path:
        """State directory and OCI bundle of one container's shim."""
        return self.shims / container_id

    def shim_socket(self, container_id: str) -> Path:
        """SEQPACKET socket of one container's shim."""
        return self.shim_dir(container_id) / "shim.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.root / "supervisor.sock"

    @property
    def settings(self) -> Path:
        """The daemon's merged command line, written by ``wharfd`` and read by the services."""
        return self.root / "settings.json"
