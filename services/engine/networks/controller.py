"""The network controller: the one door to this package (:class:`NetworkService`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.engine.contracts import ContainerNetworks, EtcFiles, Ports, Sandbox, SandboxRequest
from services.engine.events import Events
from services.engine.networks import checks, listing
from services.engine.networks.connect import Connector
from services.engine.networks.dns.service import DnsService
from services.engine.networks.drivers.base import Driver
from services.engine.networks.drivers.bridge import BridgeDriver
from services.engine.networks.drivers.null import HostDriver, NullDriver
from services.engine.networks.halfway import Halfway
from services.engine.networks.kernel import Kernel
from services.engine.networks.manage import Manager
from services.engine.networks.model import NetworkSettings
from services.engine.networks.ports import HostPorts
from services.engine.networks.records import Records
from services.engine.networks.registry import Registry
from services.engine.networks.relay import Relay, retire
from services.engine.networks.restore import restore
from services.engine.networks.sandboxes import Sandboxes
from services.engine.scopes import Background, KeyedLocks
from services.engine.store import Store
from services.protocol import task_pb2 as pb
from services.protocol.api.networks import (
    ConnectRequest,
    DisconnectRequest,
    EndpointSettings,
    NetworkCreateReply,
    NetworkCreateRequest,
    NetworkInspect,
    NetworkPruneReply,
)
from services.protocol.errors import NotFound, Unavailable, WharfError
from services.protocol.paths import ExecRoot

log = logging.getLogger(__name__)


class NetworkController:
    """Built before the engine serves; :meth:`restore` comes before any other call."""

    def __init__(self, store: Store, events: Events, settings: NetworkSettings) -> None:
        self.settings = settings
        self._background = Background("networks")
        self._kernel = Kernel(settings.table, firewall=settings.firewall)
        self._records = Records(store)
        drivers: list[Driver] = [
            BridgeDriver(self._kernel, ip_forward=settings.ip_forward),
            HostDriver(),
            NullDriver(),
        ]
        self._registry = Registry(
            self._records, self._kernel, {driver.name: driver for driver in drivers}, settings
        )
        self._exec_root = ExecRoot(Path(settings.zygote).parent) if settings.zygote else None
        relayed = self._exec_root is not None and settings.userland_proxy
        self._ports = HostPorts(listen=settings.firewall or relayed, relayed=relayed)
        if self._exec_root is not None and settings.userland_proxy:
            self._kernel.relay = Relay(self._exec_root, self._ports)
        self._sandboxes = Sandboxes(
            self._records, self._registry, self._kernel, self._ports, events, settings
        )

        self._dns = DnsService(self._sandboxes)
        self._locks = KeyedLocks()
        self._manager = Manager(self._records, self._registry, self._kernel, self._sandboxes, events)
        self._connector: Connector | None = None
        self._halfway: Halfway | None = None

    def bind(self, containers: ContainerNetworks) -> None:
        """The containers' side of connect and disconnect; the two know each other only here."""
        parts = self._records, self._registry, self._kernel, self._sandboxes, containers
        self._connector, self._halfway = Connector(*parts, self._dns), Halfway(*parts)

    # NetworkService -----------------------------------------------------------------------------

    def check(self, network_mode: str, endpoints: Mapping[str, EndpointSettings]) -> None:
        checks.check(self._registry, network_mode, endpoints)

    async def allocate(self, request: SandboxRequest) -> tuple[Sandbox, EtcFiles]:
        async with self._locks.hold(request.container_id):
            await self._dns.stop(request.container_id)
            return await self._sandboxes.allocate(request)

    async def attach(self, container_id: str, pid: int) -> pb.NetworkSetup:
        async with self._locks.hold(container_id):
            setup = await self._sandboxes.attach(container_id, pid)
            await self._dns.start(self._sandboxes.by_container[container_id], pid)
            return setup

    async def detach(self, container_id: str) -> None:
        async with self._locks.hold(container_id):
            await self._dns.stop(container_id)
            await self._sandboxes.detach(container_id)

    async def restore(self, running: Mapping[str, int]) -> Mapping[str, Ports]:
        if self._kernel.relay is not None:
            self._kernel.relay.watch(asyncio.get_running_loop(), self._kernel.submit)
            await self._kernel.run(self._kernel.relay.adopt)
        elif self._exec_root is not None:
            await self._kernel.run(retire, self._exec_root)
        await restore(
            running,
            self._records,
            self._registry,
            self._kernel,
            self._ports,
            self._sandboxes,
            self._halfway,
        )
        for record in list(self._sandboxes.by_container.values()):
            try:
                await self._dns.start(record, running[record.container_id])
            except WharfError as error:
                log.error("container %s has no name resolution: %s", record.container_id, error)
        return {
            container_id: self._sandboxes.ports_of(record)
            for container_id, record in self._sandboxes.by_container.items()
        }

    async def rename(self, container_id: str, name: str) -> Sandbox | None:
        async with self._locks.hold(container_id):
            return await self._sandboxes.rename(container_id, name)

    def network_id(self, name: str) -> str | None:
        try:
            return self._registry.find(name).id
        except WharfError:
            return None

    # The API's verbs -----------------------------------------------------------------------------

    def list(self, filters: Mapping[str, Sequence[str]]) -> Sequence[NetworkInspect]:
        """Containers are not listed."""
        found = listing.matching(self._registry.all(), filters, self._manager.in_use)
        return [listing.inspect(record, None, self._registry) for record in found]

    def inspect(self, ref: str, scope: str = "", *, status: bool = False) -> NetworkInspect:
        record = self._registry.find(ref)
        if scope not in ("", record.scope):
            raise NotFound(f"network {ref} not found")
        shown = listing.inspect(record, self._sandboxes.users, self._registry)
        if status:
            shown.status = listing.status(record, self._registry)
        return shown

    async def create(self, request: NetworkCreateRequest, request_id: str = "") -> NetworkCreateReply:
        record = await self._manager.create(request, request_id)
        return NetworkCreateReply(id=record.id)

    def made_by(self, request_id: str) -> NetworkCreateReply | None:
        """The answer of a create that a former engine carried out and could not give."""
        made = (record for record in self._registry.all() if record.request_id == request_id)
        return next((NetworkCreateReply(id=record.id) for record in made), None)

    async def remove(self, ref: str) -> None:
        await self._manager.remove(ref)

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> NetworkPruneReply:
        removed = await self._manager.prune(filters)
        return NetworkPruneReply(networks_deleted=removed or None)

    async def connect(self, ref: str, request: ConnectRequest) -> None:
        await self._connect().connect(ref, request.container, request.endpoint_config)

    async def disconnect(self, ref: str, request: DisconnectRequest) -> None:
        await self._connect().disconnect(ref, request.container, force=request.force)

    def _connect(self) -> Connector:
        if self._connector is None:
            raise Unavailable("containers are not there yet")
        return self._connector

    async def close(self, *, remove: bool = True) -> None:
        """End of the engine. With *remove*, and if no container lives on, nothing stays in the
        kernel: the table and the bridges the daemon made are made again at the next start."""
        if remove and not self._sandboxes.by_container:
            await self._kernel.run(self._remove_all)
            await self._registry.disown()
        await self._dns.close()
        await self._background.drain()
        self._ports.close()
        self._kernel.close()

    def _remove_all(self) -> None:
        if self._kernel.firewall is not None:
            self._kernel.firewall.destroy()
        self._kernel.links.delete(
            [one.interface for one in self._registry.all() if one.interface and one.owned]
        )
