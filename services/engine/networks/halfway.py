"""Changes of a running container's networks that a crash cut short, found when the engine starts.

``connect``, ``disconnect`` and ``rename`` write two rows, with the kernel's side between the first two:

====================  ====================  =======================================================
row of the sandbox    row of the container  done
====================  ====================  =======================================================
has the network       has it not            a connect: taken back; a repeated request does it anew
has it not            has it                a disconnect: carried out
has the old name      has the new one       a rename: carried out
====================  ====================  =======================================================

Both rows agree last of all, so that a crash in here is found as well.
"""

from __future__ import annotations

import ipaddress
import logging

from services.engine.contracts import ContainerNetworks, NetworkedContainer
from services.engine.networks import etcfiles, hostsfile, namespace
from services.engine.networks.ipam import Network
from services.engine.networks.kernel import Kernel
from services.engine.networks.model import SandboxRecord
from services.engine.networks.records import Records
from services.engine.networks.registry import Registry
from services.engine.networks.sandboxes import Sandboxes
from services.protocol.errors import NotFound

log = logging.getLogger(__name__)


class Halfway:
    """One start's: :meth:`correct` for each sandbox, and :meth:`settle` when the bridges are there."""

    def __init__(
        self,
        records: Records,
        registry: Registry,
        kernel: Kernel,
        sandboxes: Sandboxes,
        containers: ContainerNetworks,
    ) -> None:
        self._records = records
        self._registry = registry
        self._kernel = kernel
        self._sandboxes = sandboxes
        self._containers = containers
        #: Records that were corrected, with pid, ids of the networks left, and host interfaces to remove.
        self._found: list[tuple[SandboxRecord, int, set[str], list[str]]] = []

    async def correct(self, record: SandboxRecord, pid: int) -> None:
        """Make *record* that of the networks the container with the init *pid* is in now."""
        try:
            async with self._containers.hold(record.container_id) as container:
                self._correct(record, pid, container)
        except NotFound:
            log.error("sandbox of container %s, which is not known", record.container_id)

    def _correct(self, record: SandboxRecord, pid: int, container: NetworkedContainer) -> None:
        told = {one.network_id: one.dns_names or [] for one in container.endpoints.values()}
        if "" in told:
            return  # what it is to be connected to at its start, which has not come so far
        mine = {one.network_id for one in record.endpoints}
        dropped = [one for one in record.endpoints if one.network_id not in told]
        changed = told.keys() ^ mine
        record.endpoints = [one for one in record.endpoints if one.network_id in told]
        if changed:
            record.gateway_network = self._sandboxes.choose_gateway(record)
            if not record.gateway_network:
                record.ports = []
        renamed = record.container_name != container.name
        record.container_name = container.name
        now = {
            one.network_id: one.dns_names or [] for one in self._sandboxes.describe(record).requested.values()
        }
        if changed or renamed or now != told:
            log.info("container %s: a change of its networks was cut short", record.container_id)
            links = [one.host_interface for one in dropped if one.host_interface]
            self._found.append((record, pid, changed, links))

    async def settle(self) -> None:
        for record, pid, networks, links in self._found:
            try:
                if networks:
                    await self._kernel.run(self._reroute, record, pid, links)
                async with self._containers.hold(record.container_id) as container:
                    await self._kernel.run(self._forget_hosts, record, container, networks)
                    await self._records.save_sandbox(record)
                    described = self._sandboxes.describe(record, pid)
                    await self._containers.set_endpoints(container.id, described.requested, described)
            except (OSError, NotFound) as error:
                log.error("networks of container %s: %s", record.container_id, error)

    def _reroute(self, record: SandboxRecord, pid: int, links: list[str]) -> None:
        """In the network thread: the default route may have gone with the link."""
        self._kernel.links.delete(links)
        endpoint = record.endpoint(record.gateway_network)
        network = self._registry.get(record.gateway_network)
        if endpoint and network and (gateway := self._registry.addresses(network).gateway(endpoint.ipv4)):
            namespace.set_default_route(pid, endpoint.interface, gateway)

    def _forget_hosts(self, record: SandboxRecord, container: NetworkedContainer, networks: set[str]) -> None:
        """Its own lines with addresses of *networks* leave its hosts file."""
        known = [network for one in networks if (network := self._registry.get(one))]
        subnets = [ipaddress.ip_network(pool.subnet, strict=False) for one in known for pool in one.pools]
        names = etcfiles.host_line("", record.hostname, record.domainname)
        if container.hosts_path and subnets:
            hostsfile.edit(container.hosts_path, lambda line: _is_own(line, names, subnets), "")


def _is_own(line: str, names: str, subnets: list[Network]) -> bool:
    address = line.partition("\t")[0]
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return line.rstrip("\n") == address + names.rstrip("\n") and any(parsed in one for one in subnets)
