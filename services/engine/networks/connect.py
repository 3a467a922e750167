"""Joining a container to a network, and taking it out, while it runs or not.

Refusals are moby's (daemon/container_operations.go), with its texts.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack

import msgspec

from services.engine.contracts import ContainerNetworks, NetworkedContainer
from services.engine.networks import checks, endpoint_options, etcfiles, hostsfile, namespace, views
from services.engine.networks.dns.service import DnsService
from services.engine.networks.kernel import Kernel
from services.engine.networks.model import (
    HOST,
    NONE,
    PREDEFINED,
    EndpointRecord,
    NetworkRecord,
    SandboxRecord,
)
from services.engine.networks.netlink import NetlinkError
from services.engine.networks.records import Records
from services.engine.networks.registry import Registry
from services.engine.networks.sandboxes import Sandboxes
from services.engine.scopes import Undo, settled
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import Forbidden, InvalidParameter, NotFound, SystemError_, WharfError

log = logging.getLogger(__name__)

_SHARED = (
    "container sharing network namespace with another container or host cannot be connected to any "
    "other network"
)
_NO_NETWORK = (
    "container cannot be connected to multiple networks with one of the networks in private (none) mode"
)
_TO_HOST = "cannot connect container to host network - container must be created in host network mode"
_FROM_HOST = "cannot disconnect container from host network - container was created in host network mode"


class AlreadyConnected(Forbidden):
    """The container is in the network."""


class NotConnected(SystemError_):
    """The container is not in the network."""


class Connector:
    """Works under the container's own lock, as its start and stop do."""

    def __init__(
        self,
        records: Records,
        registry: Registry,
        kernel: Kernel,
        sandboxes: Sandboxes,
        containers: ContainerNetworks,
        dns: DnsService,
    ) -> None:
        self._records = records
        self._registry = registry
        self._kernel = kernel
        self._sandboxes = sandboxes
        self._containers = containers
        self._dns = dns

    async def connect(self, ref: str, container_ref: str, settings: EndpointSettings | None) -> None:
        if not container_ref:
            raise InvalidParameter('invalid name or ID supplied: ""')
        settings = settings or EndpointSettings()
        checks.check_format(settings)
        async with self._containers.hold(container_ref) as container:
            if container.pid:
                await self._connect_running(ref, container, settings)
            else:
                await self._connect_stopped(ref, container, settings)

    async def _connect_stopped(
        self, ref: str, container: NetworkedContainer, settings: EndpointSettings
    ) -> None:
        """A wish for the next start; a network that is not there may come until then."""
        try:
            network: NetworkRecord | None = self._registry.find(ref)
        except WharfError:
            network = None
        name = ref
        if network is not None:
            name = network.name
            self._check_settings(network, settings)
            if self._check_company(network, container):
                return
            if name not in PREDEFINED:
                settings = msgspec.structs.replace(settings, dns_names=_dns_names(container, settings))
        await self._containers.set_endpoints(container.id, {**container.endpoints, name: settings}, None)

    async def _connect_running(
        self, ref: str, container: NetworkedContainer, settings: EndpointSettings
    ) -> None:
        if container.network_mode.startswith("container:"):
            raise InvalidParameter(_SHARED)
        network = self._registry.find(ref)
        self._check_settings(network, settings)
        self._check_company(network, container)
        sandbox = self._sandbox(container)
        if sandbox.endpoint(network.id) is not None:
            raise AlreadyConnected(
                f"endpoint with name {container.name} already exists in network {network.name}"
            )
        endpoint = await self._join(network, settings, sandbox, container)
        self._sandboxes.announce("connect", sandbox, endpoint)

    @staticmethod
    def _check_settings(network: NetworkRecord, settings: EndpointSettings) -> None:
        if found := checks.problems(network.name, network, settings):
            raise InvalidParameter(checks.describe(found))

    def _check_company(self, network: NetworkRecord, container: NetworkedContainer) -> bool:
        """Whether the container is in the network already; refuses networks that do not go together."""
        if network.driver == "host" and container.network_mode != HOST:
            raise InvalidParameter(_TO_HOST)
        for name, settings in container.endpoints.items():
            try:
                other = self._registry.find(settings.network_id or name)
            except WharfError:
                continue
            if other.id == network.id:
                return True
            if "host" in (other.driver, network.driver):
                raise InvalidParameter(_SHARED)
            if NONE in (other.name, network.name):
                raise InvalidParameter(_NO_NETWORK)
        return False

    async def disconnect(self, ref: str, container_ref: str, *, force: bool) -> None:
        if not container_ref:
            raise InvalidParameter('invalid name or ID supplied: ""')
        try:
            async with self._containers.hold(container_ref) as container:
                if container.pid:
                    await self._disconnect_running(ref, container)
                else:
                    await self._disconnect_stopped(ref, container)
        except NotFound as error:
            if force and str(error).startswith("No such container"):
                self._registry.find(ref)
                raise NotFound(f"endpoint {container_ref} not found") from None
            raise

    async def _disconnect_stopped(self, ref: str, container: NetworkedContainer) -> None:
        """The wish is taken back, also where the network is gone."""
        try:
            network = self._registry.find(ref)
        except WharfError:
            name, key = ref, ref if ref in container.endpoints else None
        else:
            name, key = network.name, self._key(network, container.endpoints)
        if key is None:
            raise NotConnected(f"container {container.id} is not connected to the network {name}")
        left = {name: one for name, one in container.endpoints.items() if name != key}
        await self._containers.set_endpoints(container.id, left, None)

    async def _disconnect_running(self, ref: str, container: NetworkedContainer) -> None:
        network = self._registry.find(ref)
        if network.driver == "host" and container.network_mode == HOST:
            raise InvalidParameter(_FROM_HOST)
        sandbox = self._sandbox(container)
        endpoint = sandbox.endpoint(network.id)
        if endpoint is None:
            raise NotConnected(f"container {container.id} is not connected to network {network.name}")
        await settled(self._leave(endpoint, sandbox, container))
        self._sandboxes.announce_network("disconnect", network, container.id)

    def _key(self, network: NetworkRecord, endpoints: Mapping[str, EndpointSettings]) -> str | None:
        for name, settings in endpoints.items():
            if name == network.name or settings.network_id == network.id:
                return name
        return None

    def _sandbox(self, container: NetworkedContainer) -> SandboxRecord:
        sandbox = self._sandboxes.by_container.get(container.id)
        if sandbox is None:
            raise SystemError_(f"container {container.id} has no sandbox")
        return sandbox

    async def _tell(self, sandbox: SandboxRecord, container: NetworkedContainer) -> None:
        described = self._sandboxes.describe(sandbox, container.pid)
        await self._containers.set_endpoints(container.id, described.requested, described)

    # The running container ----------------------------------------------------------------------

    async def _join(
        self,
        network: NetworkRecord,
        settings: EndpointSettings,
        sandbox: SandboxRecord,
        container: NetworkedContainer,
    ) -> EndpointRecord:
        before = _copy(sandbox)
        async with Undo() as undo:
            endpoint = self._sandboxes.reserve_endpoint(network, settings, sandbox)
            sandbox.endpoints.append(endpoint)
            self._sandboxes.keep(sandbox)
            undo.push(functools.partial(self._take_back, sandbox, before, container.pid))
            with ExitStack() as ports:
                self._choose_gateway(sandbox, ports)
                ports.pop_all()
            resolv_conf = self._sandboxes.embed(sandbox, network)
            await self._records.save_sandbox(sandbox)
            await self._kernel.run(self._make, network, endpoint, sandbox, before, container.pid)
            undo.keep()
            await settled(self._show(endpoint, sandbox, container, resolv_conf))
        return endpoint

    async def _show(
        self,
        endpoint: EndpointRecord,
        sandbox: SandboxRecord,
        container: NetworkedContainer,
        resolv_conf: str,
    ) -> None:
        """It has joined: in its files of ``/etc``, and in its record."""
        if endpoint.ipv4 and container.hosts_path:
            line = etcfiles.host_line(endpoint.ipv4, sandbox.hostname, sandbox.domainname)
            await self._kernel.run(hostsfile.edit, container.hosts_path, lambda _: False, line)
        if resolv_conf:
            await self._resolve(sandbox, container, resolv_conf)
        await self._tell(sandbox, container)

    async def _resolve(self, sandbox: SandboxRecord, container: NetworkedContainer, resolv_conf: str) -> None:
        """It finds the others of its first network of the users' by their names."""
        try:
            await self._dns.start(sandbox, container.pid)
        except WharfError as error:
            log.error("container %s: %s", container.id, error)
            return
        if sandbox.plain is not None and container.resolv_conf_path:
            path = container.resolv_conf_path
            await self._kernel.run(hostsfile.replace, path, sandbox.plain.digest, resolv_conf)

    def _choose_gateway(self, sandbox: SandboxRecord, undo: ExitStack) -> None:
        """Ports stay while there is a network to lead them to, and come when there is one."""
        sandbox.gateway_network = self._sandboxes.choose_gateway(sandbox)
        if not sandbox.gateway_network:
            self._sandboxes.unpublish(sandbox)
        elif not sandbox.ports:
            self._sandboxes.publish(sandbox, undo)

    def _make(
        self,
        network: NetworkRecord,
        endpoint: EndpointRecord,
        sandbox: SandboxRecord,
        before: SandboxRecord,
        pid: int,
    ) -> None:
        """In the network thread: the link, its inside, the default route, the rules."""
        driver = self._registry.driver(network)
        if not driver.addresses:
            return
        try:
            target = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SystemError_(f"network namespace of process {pid}: {error.strerror}") from error
        try:
            driver.join(network, endpoint, target)
        finally:
            os.close(target)
        addresses = self._registry.addresses(network)
        texts = [f"{endpoint.ipv4}/{addresses.prefix(endpoint.ipv4)}"]
        texts += endpoint_options.link_local(endpoint.settings)
        sysctls = endpoint_options.sysctls(endpoint.settings, endpoint.interface)
        own = [ipaddress.ip_interface(text) for text in texts]
        namespace.configure(pid, endpoint.interface, own, sysctls=sysctls)
        self._reroute(sandbox, before, pid)

    def _reroute(self, sandbox: SandboxRecord, before: SandboxRecord, pid: int) -> None:
        """In the network thread: default route and port rules of another gateway network."""
        endpoint = sandbox.endpoint(sandbox.gateway_network)
        network = self._registry.get(sandbox.gateway_network)
        if endpoint and network and sandbox.gateway_network != before.gateway_network:
            gateway = self._registry.addresses(network).gateway(endpoint.ipv4)
            if gateway:
                namespace.set_default_route(pid, endpoint.interface, gateway)
        old, new = self._sandboxes.port_rules(before), self._sandboxes.port_rules(sandbox)
        self._kernel.change_ports(set(old) - set(new), set(new) - set(old))

    async def _take_back(self, sandbox: SandboxRecord, before: SandboxRecord, pid: int) -> None:
        """A connect that failed: the sandbox is what it was, its interfaces too when this returns."""
        kept = {endpoint.id for endpoint in before.endpoints}
        joined = [endpoint for endpoint in sandbox.endpoints if endpoint.id not in kept]
        # In the thread that may still be making it.
        await self._kernel.run(self._unmake, joined, before, _copy(sandbox), pid)
        for endpoint in joined:
            self._sandboxes.release_endpoint(endpoint)
        if not before.ports:
            self._sandboxes.unpublish(sandbox)
        sandbox.endpoints = before.endpoints
        sandbox.gateway_network = before.gateway_network
        sandbox.resolver = before.resolver
        self._sandboxes.keep(sandbox)
        await self._records.save_sandbox(sandbox)

    async def _leave(
        self, endpoint: EndpointRecord, sandbox: SandboxRecord, container: NetworkedContainer
    ) -> None:
        before = _copy(sandbox)
        sandbox.endpoints = [one for one in sandbox.endpoints if one.id != endpoint.id]
        self._sandboxes.keep(sandbox)
        with ExitStack() as ports:
            self._choose_gateway(sandbox, ports)
            ports.pop_all()
        await self._records.save_sandbox(sandbox)
        await self._kernel.run(self._unmake, [endpoint], sandbox, before, container.pid)
        self._sandboxes.release_endpoint(endpoint)
        if endpoint.ipv4 and container.hosts_path:
            address = endpoint.ipv4
            await self._kernel.run(
                hostsfile.edit, container.hosts_path, lambda one: one.split()[:1] == [address], ""
            )
        await self._tell(sandbox, container)

    def _unmake(
        self, endpoints: list[EndpointRecord], sandbox: SandboxRecord, before: SandboxRecord, pid: int
    ) -> None:
        """In the network thread. Waited for: the user looks for the interface next.

        Nothing turns it back: the container may be ending, and what is left must be given back.
        """
        names = [one.host_interface for one in endpoints if one.host_interface]
        try:
            self._kernel.links.delete(names)
        except NetlinkError as error:
            log.warning("links %s are removed later: %s", ", ".join(names), error)
            self._kernel.remove_links(names)
        try:
            self._reroute(sandbox, before, pid)
        except OSError as error:
            log.warning("routes of container %s: %s", sandbox.container_id, error)


def _dns_names(container: NetworkedContainer, settings: EndpointSettings) -> list[str]:
    return views.names_of(container.name, container.id, container.hostname, settings)


def _copy(sandbox: SandboxRecord) -> SandboxRecord:
    return msgspec.structs.replace(sandbox, endpoints=list(sandbox.endpoints), ports=list(sandbox.ports))
