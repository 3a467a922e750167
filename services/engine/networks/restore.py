"""Start-up: the kernel is made to agree with the database, and the database with what runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from services.engine.networks.drivers.bridge import bridge_rules
from services.engine.networks.halfway import Halfway
from services.engine.networks.kernel import Kernel
from services.engine.networks.links import Link
from services.engine.networks.model import NetworkRecord, SandboxRecord
from services.engine.networks.ports import HostPorts
from services.engine.networks.records import Records
from services.engine.networks.registry import Registry
from services.engine.networks.sandboxes import Sandboxes
from services.protocol.errors import WharfError

log = logging.getLogger(__name__)

#: Links that are deleted in one transaction: their acknowledgements must fit a socket's buffer.
_AT_ONCE = 64


async def restore(
    running: Mapping[str, int],
    records: Records,
    registry: Registry,
    kernel: Kernel,
    ports: HostPorts,
    sandboxes: Sandboxes,
    halfway: Halfway | None,
) -> None:
    """Sandboxes of *running* containers are kept with all they have; others are released."""
    await registry.ensure_predefined()
    kept: list[SandboxRecord] = []
    for record in records.sandboxes():
        if record.container_id in running:
            if halfway is not None:
                await halfway.correct(record, running[record.container_id])
            _keep(record, registry, ports)
            sandboxes.keep(record)
            kept.append(record)
        else:
            records.delete_sandbox(record.container_id)
    bridges = [network for network in registry.all() if network.driver == "bridge"]
    rules = [rule for record in kept for rule in sandboxes.port_rules(record)]
    if kernel.firewall is not None:
        # One transaction, before the bridges: containers that run never see a half-made table.
        turned = [rule for rule in rules if ":" not in rule.host_ip]
        await kernel.run(kernel.firewall.reset, [bridge_rules(one) for one in bridges], turned)
    await kernel.run(kernel.change_ports, [], rules)
    if kernel.relay is not None:
        await kernel.run(kernel.relay.settle)
    for network in bridges:
        try:
            await kernel.run(registry.driver(network).create, network)
        except WharfError as error:
            if network.interface == "" or network.name == "bridge":
                raise
            log.error("network %s could not be restored: %s", network.name, error)
    await kernel.run(_reconnect, kernel, registry, kept)
    known = {endpoint.host_interface for record in kept for endpoint in record.endpoints}
    # Waited for: what is begun anew gives its interface the same name, in the same namespace.
    await kernel.run(_remove_orphans, kernel, bridges, known)
    if halfway is not None:
        await halfway.settle()


def _reconnect(kernel: Kernel, registry: Registry, kept: list[SandboxRecord]) -> None:
    """In the network thread: ports of a bridge that was removed are ports of the new one."""
    links = {link.name: link for link in kernel.links.links()}
    for record in kept:
        for endpoint in record.endpoints:
            network = registry.get(endpoint.network_id)
            link = links.get(endpoint.host_interface)
            bridge = links.get(network.interface) if network else None
            if link is not None and bridge is not None and link.master != bridge.index:
                kernel.links.set_master(link.name, bridge.index)


def _keep(record: SandboxRecord, registry: Registry, ports: HostPorts) -> None:
    for endpoint in record.endpoints:
        network = registry.get(endpoint.network_id)
        if network is None:
            log.error("container %s is in a network that is gone", record.container_id)
        elif endpoint.ipv4 and not registry.addresses(network).restore(endpoint.ipv4):
            log.error("address %s of container %s is in use twice", endpoint.ipv4, record.container_id)
    # Published before the relay was switched off; nobody would answer.
    record.ports = [port for port in record.ports if ports.serves(port.host_ip)]
    for port in record.ports:
        try:
            ports.restore(port)
        except WharfError as error:
            log.error("container %s: %s", record.container_id, error)


def _remove_orphans(kernel: Kernel, bridges: list[NetworkRecord], known: set[str]) -> None:
    """In the network thread."""
    orphans = _orphans(kernel.links.links(), bridges, known)
    for start in range(0, len(orphans), _AT_ONCE):
        some = orphans[start : start + _AT_ONCE]
        try:
            kernel.links.delete(some)
        except OSError as error:
            log.error("links %s could not be removed: %s", ", ".join(some), error)


def _orphans(links: list[Link], bridges: list[NetworkRecord], known: set[str]) -> list[str]:
    """veth ends on bridges of ours that belong to no sandbox."""
    names = {network.interface for network in bridges}
    ours = {link.index for link in links if link.name in names}
    return [
        link.name
        for link in links
        if link.kind == "veth"
        and link.master in ours
        and link.name.startswith("veth")
        and link.name not in known
    ]
