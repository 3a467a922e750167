"""What a container asks of the network at start, from its definition and host configuration."""

from __future__ import annotations

from services.engine.containers import transitions
from services.engine.containers.model import Entry, Status
from services.engine.containers.services import Services
from services.engine.contracts import SandboxRequest
from services.protocol.errors import Conflict, InvalidParameter, NotFound

_JOIN = "container:"


def joined_container(services: Services, entry: Entry) -> Entry | None:
    """The running container whose network *entry* shares (``container:<name|id>``).

    Raises ``NotFound``, ``Conflict`` and ``InvalidParameter`` with dockerd's texts.
    """
    mode = entry.definition.host_config.network_mode
    if not mode.startswith(_JOIN):
        return None
    ref = mode.removeprefix(_JOIN)
    try:
        other = services.registry.get(ref)
    except NotFound as error:
        raise NotFound(f"joining network namespace of container: {error}") from error
    if other is entry:
        raise InvalidParameter("cannot join own network namespace")
    if other.state.status is Status.RESTARTING:
        raise Conflict(f"cannot join network namespace of container: {transitions.is_restarting(other.id)}")
    if not transitions.has_task(other.state):
        raise Conflict(
            "cannot join network namespace of a non running container: "
            f"container {other.definition.name} is {other.state.status}"
        )
    return other


def sandbox_request(entry: Entry) -> SandboxRequest:
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
        extra_hosts=host.extra_hosts or [],
    )
