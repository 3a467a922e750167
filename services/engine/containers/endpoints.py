"""The networks a created container is to be connected to."""

from __future__ import annotations

from msgspec import UNSET

from services.engine.containers.modes import network_name
from services.engine.containers.validate.legacy import Endpoints
from services.protocol.api.containers import Config, HostConfig, NetworkingConfig
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import InvalidParameter


def requested_endpoints(networking: NetworkingConfig | None) -> Endpoints:
    """What the request says, without what only a connected endpoint has."""
    result: Endpoints = {}
    for name, settings in ((networking and networking.endpoints_config) or {}).items():
        if settings is None:
            raise InvalidParameter(f"no EndpointSettings for {name}")
        result[name] = EndpointSettings(
            ipam_config=settings.ipam_config,
            links=settings.links,
            aliases=settings.aliases,
            driver_opts=settings.driver_opts,
            gw_priority=settings.gw_priority,
            mac_address=settings.mac_address,
        )
    return result


def fill_endpoints(config: Config, host: HostConfig, endpoints: Endpoints) -> None:
    """At least the network of the mode, unless another container's is joined."""
    if config.network_disabled is not UNSET and config.network_disabled:
        endpoints.clear()
        return
    name = network_name(host.network_mode)
    if not name:
        endpoints.clear()
    elif not endpoints:
        endpoints[name] = EndpointSettings()
