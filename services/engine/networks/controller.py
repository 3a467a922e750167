"""The network controller: the one door to this package (:class:`NetworkService`)."""

from __future__ import annotations

from collections.abc import Mapping

from services.engine.contracts import EtcFiles, Sandbox, SandboxRequest
from services.engine.events import Events
from services.engine.networks import checks
from services.engine.networks.drivers.base import Driver
from services.engine.networks.drivers.bridge import BridgeDriver
from services.engine.networks.drivers.null import HostDriver, NullDriver
from services.engine.networks.kernel import Kernel
from services.engine.networks.model import NetworkSettings
from services.engine.networks.ports import HostPorts
from services.engine.networks.records import Records
from services.engine.networks.registry import Registry
from services.engine.networks.restore import restore
from services.engine.networks.sandboxes import Sandboxes
from services.engine.scopes import Background
from services.engine.store import Store
from services.protocol import task_pb2 as pb
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import WharfError


class NetworkController:
    """Built before the engine serves; :meth:`restore` comes before any other call."""

    def __init__(self, store: Store, events: Events, settings: NetworkSettings) -> None:
        self.settings = settings
        self._background = Background("networks")
        self._kernel = Kernel(settings.table, firewall=settings.firewall)
        self._records = Records(store, self._background)
        drivers: list[Driver] = [
            BridgeDriver(self._kernel, ip_forward=settings.ip_forward),
            HostDriver(),
            NullDriver(),
        ]
        self._registry = Registry(
            self._records, self._kernel, {driver.name: driver for driver in drivers}, settings
        )
        self._ports = HostPorts(listen=settings.firewall)
        self._sandboxes = Sandboxes(
            self._records, self._registry, self._kernel, self._ports, events, settings
        )

    # NetworkService -----------------------------------------------------------------------------

    def check(self, network_mode: str, endpoints: Mapping[str, EndpointSettings]) -> None:
        checks.check(self._registry, network_mode, endpoints)

    async def allocate(self, request: SandboxRequest) -> tuple[Sandbox, EtcFiles]:
        return await self._sandboxes.allocate(request)

    async def attach(self, container_id: str, pid: int) -> pb.NetworkSetup:
        return await self._sandboxes.attach(container_id, pid)

    async def detach(self, container_id: str) -> None:
        await self._sandboxes.detach(container_id)

    async def restore(self, running: Mapping[str, int]) -> None:
        await restore(running, self._records, self._registry, self._kernel, self._ports, self._sandboxes)

    def network_id(self, name: str) -> str | None:
        try:
            return self._registry.find(name).id
        except WharfError:
            return None

    async def close(self, *, remove: bool = True) -> None:
        """End of the engine. With *remove*, and if no container lives on, nothing stays in the
        kernel: the table and the bridges the daemon made are made again at the next start."""
        if remove and not self._sandboxes.by_container:
            await self._kernel.run(self._remove_all)
        await self._background.drain()
        self._ports.close()
        self._kernel.close()

    def _remove_all(self) -> None:
        if self._kernel.firewall is not None:
            self._kernel.firewall.destroy()
        self._kernel.links.delete(
            [one.interface for one in self._registry.all() if one.interface and one.owned]
        )
