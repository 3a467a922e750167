"""What a container asks of the network at start, from its definition and host configuration."""

from __future__ import annotations

from services.engine.containers.links import link_hosts
from services.engine.containers.model import Entry
from services.engine.containers.modes import joined_container
from services.engine.containers.registry import Registry
from services.engine.contracts import SandboxRequest


def has_sandbox(entry: Entry) -> bool:
    """It has (or shares with the host) a network of its own, not another container's or none at all."""
    definition = entry.definition
    if definition.config.network_disabled is True:
        return False
    return joined_container(definition.host_config.network_mode) is None


def sandbox_request(registry: Registry, entry: Entry) -> SandboxRequest:
    """Raises ``SystemError_`` when a linked container does not run."""
    definition = entry.definition
    config, host = definition.config, definition.host_config
    exposed = config.exposed_ports if isinstance(config.exposed_ports, dict) else {}
    return SandboxRequest(
        container_id=definition.id,
        container_name=definition.name,
        hostname=config.hostname,
        domainname=config.domainname,
        pid=0,
        network_mode=host.network_mode,
        endpoints=definition.endpoints,
        exposed_ports=list(exposed),
        port_bindings={port: bindings or [] for port, bindings in (host.port_bindings or {}).items()},
        publish_all=host.publish_all_ports,
        links=host.links or [],
        dns=host.dns or [],
        dns_search=host.dns_search or [],
        dns_options=host.dns_options or [],
        extra_hosts=[*(host.extra_hosts or []), *link_hosts(registry, entry)],
    )
