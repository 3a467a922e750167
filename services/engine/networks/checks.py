"""What can never work is refused when it is asked for (moby daemon/container_operations.go)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from services.engine.networks import endpoint_options
from services.engine.networks.model import PREDEFINED, NetworkRecord
from services.engine.networks.registry import Registry
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import InvalidParameter, NotFound

_MAC = re.compile(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}")


def check(registry: Registry, network_mode: str, endpoints: Mapping[str, EndpointSettings]) -> None:
    """Endpoint settings of a container to be created; a network that is not there may come yet."""
    for settings in endpoints.values():
        check_format(settings)
    for name, settings in endpoints.items():
        try:
            network: NetworkRecord | None = registry.find(name)
        except NotFound:
            network = None
        if found := problems(name, network, settings):
            raise InvalidParameter(f"invalid config for network {name}: {describe(found)}")


def check_format(settings: EndpointSettings) -> None:
    """Text that is no address: moby fails at it when it reads the request."""
    for address in _static_addresses(settings):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidParameter(f'invalid JSON: ParseAddr("{address}"): unable to parse IP') from None
    if settings.mac_address and not _MAC.fullmatch(settings.mac_address):
        raise InvalidParameter(f"invalid JSON: address {settings.mac_address}: invalid MAC address")


def describe(found: list[str]) -> str:
    listed = found[0] if len(found) == 1 else "\n".join(f"* {one}" for one in found)
    return f"invalid endpoint settings:\n{listed}"


def problems(name: str, network: NetworkRecord | None, settings: EndpointSettings) -> list[str]:
    """Why *settings*, which are well-formed, cannot work in the network; empty if they can."""
    found: list[str] = []
    addresses = _static_addresses(settings)
    predefined = name in (*PREDEFINED, "default")
    if predefined and addresses:
        found.append("user-specified IP address is supported on user-defined networks only")
    if predefined and settings.aliases:
        found.append("network-scoped aliases are only supported for user-defined networks")
    found += endpoint_options.address_problems(settings)
    for address in addresses:
        parsed = ipaddress.ip_address(address)
        if network is not None and not _inside(network, parsed):
            found.append(f"no configured subnet contains IP address {address}")
    return found + endpoint_options.sysctl_problems(settings)


def _static_addresses(settings: EndpointSettings) -> list[str]:
    config = settings.ipam_config
    if config is None:
        return []
    return [one for one in (config.ipv4_address, config.ipv6_address) if isinstance(one, str) and one]


def _inside(network: NetworkRecord, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Also a subnet that nobody asked for will do (moby since 29.1)."""
    return any(address in ipaddress.ip_network(pool.subnet, strict=False) for pool in network.pools)
