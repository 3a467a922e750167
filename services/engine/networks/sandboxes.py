"""Sandboxes: the network of one running container, from allocation to release.

``allocate`` reserves (memory, and a row in the database), ``attach`` makes (links, rules), ``detach``
undoes both in any state. What a crash leaves behind is put right by :mod:`restore`.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import Future
from contextlib import ExitStack

from services.engine.contracts import EtcFiles, Sandbox, SandboxRequest
from services.engine.events import Events
from services.engine.networks import endpoint_options, views
from services.engine.networks.drivers.bridge import HOST_BINDING, IFACE_PREFIX, mtu
from services.engine.networks.firewall import PortRule
from services.engine.networks.ipam import mac_address
from services.engine.networks.kernel import Kernel
from services.engine.networks.model import (
    BRIDGE,
    PREDEFINED,
    EndpointRecord,
    NetworkRecord,
    NetworkSettings,
    SandboxRecord,
)
from services.engine.networks.ports import HostPorts, PortRequest, describe, port_requests
from services.engine.networks.records import Records
from services.engine.networks.registry import Registry, new_id
from services.engine.scopes import settled
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import PortBinding
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import Forbidden, NotFound, SystemError_, WharfError

log = logging.getLogger(__name__)


class Sandboxes:
    """All sandboxes, by container id. One container's calls come one after the other."""

    def __init__(
        self,
        records: Records,
        registry: Registry,
        kernel: Kernel,
        ports: HostPorts,
        events: Events,
        settings: NetworkSettings,
    ) -> None:
        self._records = records
        self._registry = registry
        self._kernel = kernel
        self._ports = ports
        self._events = events
        self._settings = settings
        self._writes: dict[str, Future[None]] = {}
        self.by_container: dict[str, SandboxRecord] = {}
        #: Network id -> ids of the containers in it, in the order they came.
        self._members: dict[str, dict[str, None]] = {}

    def users(self, network_id: str) -> list[tuple[SandboxRecord, EndpointRecord]]:
        """Endpoints of running containers in a network."""
        found = []
        for container_id in self._members.get(network_id, ()):
            sandbox = self.by_container[container_id]
            if (endpoint := sandbox.endpoint(network_id)) is not None:
                found.append((sandbox, endpoint))
        return found

    def is_internal(self, network_id: str) -> bool:
        network = self._registry.get(network_id)
        return network is not None and network.internal

    def keep(self, record: SandboxRecord) -> None:
        """Know *record*, under the networks it is in now."""
        self._forget(record)
        self.by_container[record.container_id] = record
        for endpoint in record.endpoints:
            self._members.setdefault(endpoint.network_id, {})[record.container_id] = None

    def _forget(self, record: SandboxRecord) -> None:
        self.by_container.pop(record.container_id, None)
        for network_id in [one for one, members in self._members.items() if record.container_id in members]:
            del self._members[network_id][record.container_id]
            if not self._members[network_id]:
                del self._members[network_id]

    # Allocation ---------------------------------------------------------------------------------

    async def allocate(self, request: SandboxRequest) -> tuple[Sandbox, EtcFiles]:
        await self.detach(request.container_id)
        wanted = self._wanted(request)
        with ExitStack() as undo:
            try:
                record = self._reserve(request, wanted, undo)
            except WharfError:
                for network, _ in wanted:
                    self.announce_network("disconnect", network, request.container_id)
                raise
            files = views.etc_files(request, record, self._registry, self._settings)
            undo.pop_all()
        self.keep(record)
        self._writes[record.container_id] = self._records.put_sandbox(record)
        return self.describe(record), files

    def embed(self, record: SandboxRecord, network: NetworkRecord) -> str:
        """The resolv.conf to be had in *network*, if the container was started in none with the embedded
        server; and the servers that one forwards to.
        """
        if network.name in PREDEFINED or record.plain is None:
            return ""
        return views.embedded(record, record.plain, self._settings)

    def _reserve(
        self,
        request: SandboxRequest,
        wanted: list[tuple[NetworkRecord, EndpointSettings]],
        undo: ExitStack,
    ) -> SandboxRecord:
        record = SandboxRecord(
            id=new_id(),
            container_id=request.container_id,
            container_name=request.container_name,
            hostname=request.hostname,
            domainname=request.domainname,
            requested=port_requests(request.exposed_ports, request.port_bindings, request.publish_all),
            exposed=sorted({*request.exposed_ports, *request.port_bindings}),
        )
        for network, settings in wanted:
            endpoint = self.reserve_endpoint(network, settings, record)
            undo.callback(self.release_endpoint, endpoint)
            record.endpoints.append(endpoint)
        record.gateway_network = self.choose_gateway(record)
        self.publish(record, undo)
        return record

    def _wanted(self, request: SandboxRequest) -> list[tuple[NetworkRecord, EndpointSettings]]:
        """Networks in the order of their interfaces: the mode's first, then by name."""
        mode = BRIDGE if request.network_mode in ("", "default") else request.network_mode
        # An endpoint knows its network's id from an earlier start: a namesake is another network.
        wanted = {
            name: (self._registry.find(settings.network_id or name), settings)
            for name, settings in (request.endpoints or {mode: EndpointSettings()}).items()
        }
        return [wanted[name] for name in sorted(wanted, key=lambda name: (name != mode, name))]

    def reserve_endpoint(
        self, network: NetworkRecord, settings: EndpointSettings, sandbox: SandboxRecord
    ) -> EndpointRecord:
        """Addresses, names and interface of a new endpoint; the caller adds it to *sandbox*."""
        endpoint = EndpointRecord(
            id=new_id(), network_id=network.id, network_name=network.name, settings=settings
        )
        if network.config_only:
            raise Forbidden("cannot create endpoint on configuration-only network")
        if not self._registry.driver(network).addresses:
            return endpoint
        endpoint_options.check_link_local(settings)
        config = settings.ipam_config
        static = config.ipv4_address if config and isinstance(config.ipv4_address, str) else ""
        endpoint.ipv4 = self._registry.addresses(network).allocate(4, static)
        endpoint.mac_address = settings.mac_address.lower().replace("-", ":") or mac_address(endpoint.ipv4)
        used = {one.interface for one in sandbox.endpoints}
        prefix = network.options.get(IFACE_PREFIX) or "eth"
        names = (f"{prefix}{number}" for number in range(len(used) + 1))
        free = next(name for name in names if name not in used)
        endpoint.interface = endpoint_options.interface_name(settings) or free
        endpoint.host_interface = f"veth{endpoint.id[:7]}"
        return endpoint

    def release_endpoint(self, endpoint: EndpointRecord) -> None:
        network = self._registry.get(endpoint.network_id)
        if network is not None and endpoint.ipv4:
            self._registry.addresses(network).release(endpoint.ipv4)

    def choose_gateway(self, sandbox: SandboxRecord) -> str:
        """The id of the network with the default route: highest priority, then by name.

        Internal networks lead nowhere.
        """
        candidates: list[tuple[int, str, str]] = []
        for endpoint in sandbox.endpoints:
            network = self._registry.get(endpoint.network_id)
            if network is not None and not network.internal:
                candidates.append((-endpoint.settings.gw_priority, network.name, network.id))
        return min(candidates)[2] if candidates else ""

    def publish(self, record: SandboxRecord, undo: ExitStack) -> None:
        """Host ports, if there is a network for them to lead to."""
        gateway = self._registry.get(record.gateway_network)
        endpoint = record.endpoint(record.gateway_network)
        if gateway is None or endpoint is None or not endpoint.ipv4:
            return
        default = gateway.options.get(HOST_BINDING, "")
        for request in record.requested:
            if not request.host_ip and default not in ("", "0.0.0.0"):
                request = PortRequest(request.protocol, request.container_port, default, request.host_ports)
            try:
                published = self._ports.reserve(request)
            except WharfError as error:
                raise type(error)(
                    "driver failed programming external connectivity on endpoint "
                    f"{record.container_name} ({endpoint.id}): {error}"
                ) from error
            undo.callback(self._ports.release, published)
            record.ports += published

    # Making -------------------------------------------------------------------------------------

    async def attach(self, container_id: str, pid: int) -> pb.NetworkSetup:
        record = self.by_container.get(container_id)
        if record is None:
            raise NotFound(f"container {container_id} has no sandbox")
        if (write := self._writes.pop(container_id, None)) is not None:
            await self._records.written(write)
        await self._kernel.run(self._make, record, pid)
        for endpoint in record.endpoints:
            self.announce("connect", record, endpoint)
        return self._setup(record)

    def _make(self, record: SandboxRecord, pid: int) -> None:
        """In the network thread."""
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SystemError_(f"network namespace of process {pid}: {error.strerror}") from error
        try:
            for endpoint in record.endpoints:
                if (network := self._registry.get(endpoint.network_id)) is None:
                    raise NotFound(f"network {endpoint.network_id} not found")
                self._registry.driver(network).join(network, endpoint, namespace)
        finally:
            os.close(namespace)
        self._kernel.change_ports([], self.port_rules(record))

    def _setup(self, record: SandboxRecord) -> pb.NetworkSetup:
        """What the runtime configures inside the namespace; without IPv6, none but loopback's."""
        setup = pb.NetworkSetup()
        for endpoint in record.endpoints:
            network = self._registry.get(endpoint.network_id)
            if network is None or not endpoint.ipv4:
                continue
            addresses = self._registry.addresses(network)
            setup.interfaces.append(
                pb.NetworkInterface(
                    name=endpoint.interface,
                    mac_address=endpoint.mac_address,
                    addresses=[
                        f"{endpoint.ipv4}/{addresses.prefix(endpoint.ipv4)}",
                        *endpoint_options.link_local(endpoint.settings),
                    ],
                    mtu=mtu(network.options),
                    sysctls={
                        f"net.ipv6.conf.{endpoint.interface}.disable_ipv6": "1",
                        **endpoint_options.sysctls(endpoint.settings, endpoint.interface),
                    },
                )
            )
            if network.id == record.gateway_network and (gateway := addresses.gateway(endpoint.ipv4)):
                setup.routes.append(
                    pb.NetworkRoute(destination="default", gateway=gateway, interface=endpoint.interface)
                )
        return setup

    def port_rules(self, record: SandboxRecord) -> list[PortRule]:
        """Where the published ports lead."""
        endpoint = record.endpoint(record.gateway_network)
        if endpoint is None:
            return []
        return [
            PortRule(port.protocol, port.host_ip, port.host_port, endpoint.ipv4, port.container_port)
            for port in record.ports
        ]

    async def rename(self, container_id: str, name: str) -> Sandbox | None:
        record = self.by_container.get(container_id)
        if record is None:
            return None
        if record.container_name != name:
            record.container_name = name
            await self._records.save_sandbox(record)
        return self.describe(record)

    # Undoing ------------------------------------------------------------------------------------

    async def detach(self, container_id: str) -> None:
        record = self.by_container.get(container_id)
        if record is None:
            return
        self._forget(record)
        self._writes.pop(container_id, None)
        # Rules first: an address or a port that is free must lead nowhere.
        rules = self.port_rules(record)
        try:
            if rules:
                await settled(self._kernel.run(self._kernel.change_ports, rules, []))
        finally:
            self.release(record)
            self._records.delete_sandbox(container_id)
        for endpoint in record.endpoints:
            self.announce("disconnect", record, endpoint)

    def release(self, record: SandboxRecord) -> None:
        """Links, host ports and addresses."""
        for endpoint in record.endpoints:
            if (network := self._registry.get(endpoint.network_id)) is not None:
                self._registry.driver(network).leave([endpoint])
            self.release_endpoint(endpoint)
        self._ports.release(record.ports)

    def unpublish(self, record: SandboxRecord) -> None:
        """Host ports are given back; the rules are the caller's."""
        self._ports.release(record.ports)
        record.ports = []

    def announce_network(self, action: str, network: NetworkRecord, container_id: str) -> None:
        attributes = {"container": container_id, "name": network.name, "type": network.driver}
        self._events.publish("network", action, network.id, attributes)

    def announce(self, action: str, record: SandboxRecord, endpoint: EndpointRecord) -> None:
        network = self._registry.get(endpoint.network_id)
        attributes = {
            "container": record.container_id,
            "name": endpoint.network_name,
            "type": network.driver if network else "",
        }
        self._events.publish("network", action, endpoint.network_id, attributes)

    def describe(self, record: SandboxRecord, pid: int = 0) -> Sandbox:
        return Sandbox(
            sandbox_id=record.id,
            sandbox_key=f"/proc/{pid}/ns/net" if pid else "",
            endpoints={
                one.network_name: views.endpoint_settings(record, one, self._registry)
                for one in record.endpoints
            },
            ports=self.ports_of(record),
            requested={one.network_name: views.requested(record, one) for one in record.endpoints},
        )

    def ports_of(self, record: SandboxRecord) -> dict[str, list[PortBinding] | None]:
        """Only a container with addresses of its own has ports."""
        if not any(endpoint.ipv4 for endpoint in record.endpoints):
            return {}
        return describe(record.exposed, record.ports)
