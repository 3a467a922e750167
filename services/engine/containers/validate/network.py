"""Options that do not go together with a network mode, ports, links and hosts."""

from __future__ import annotations

import re

from msgspec import UNSET

from services.engine.addresses import is_address
from services.engine.containers.modes import joined_container
from services.protocol.api.containers import Config, HostConfig
from services.protocol.errors import InvalidParameter

_PORT = re.compile(r"\d{1,5}\Z", re.ASCII)


def check_network_mode(config: Config, host: HostConfig) -> None:
    """moby ``validateNetMode``."""
    mode = host.network_mode
    joined = joined_container(mode)
    if joined == "":
        raise InvalidParameter("invalid network mode: invalid container format container:<name|id>")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    undefined = "can't be used with links. This would result in undefined behavior"
    if mode == "host" and host.links:
        raise InvalidParameter(f"conflicting options: host type networking {undefined}")
    if joined is None:
        return
    if config.hostname:
        raise InvalidParameter("conflicting options: hostname and the network mode")
    if host.links:
        raise InvalidParameter(f"conflicting options: container type network {undefined}")
    if host.dns:
        raise InvalidParameter("conflicting options: dns and the network mode")
    if host.extra_hosts:
        raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")
    if host.port_bindings or host.publish_all_ports:
        raise InvalidParameter("conflicting options: port publishing and the container type network mode")
    if config.exposed_ports is not UNSET and config.exposed_ports:
        raise InvalidParameter("conflicting options: port exposing and the container type network mode")


def check_extra_hosts(host: HostConfig) -> None:
    for item in host.extra_hosts or []:
        name, separator, address = item.partition("=" if "=" in item else ":")
        if not separator or not name:
            raise InvalidParameter(f'bad format for add-host: "{item}"')
        if address == "host-gateway":
            continue
        if address.startswith("[") and address.endswith("]"):
            address = address[1:-1]
        if not is_address(address):
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"')


def check_dns(host: HostConfig) -> None:
    for address in host.dns or []:
        if not is_address(address):
            raise InvalidParameter(f"bad nameserver address: {address}")


def check_ports(host: HostConfig) -> None:
    """Port bindings; the port of the container itself has been checked as JSON."""
    for port, bindings in (host.port_bindings or {}).items():
        number = port.partition("/")[0]
        if not _is_range(number) or number.partition("-")[0] == "0":
            raise InvalidParameter(f'invalid port specification: "{port}"')
        for binding in bindings or []:
            if binding.host_port and not _is_range(binding.host_port):
                raise InvalidParameter(f'invalid port specification: "{binding.host_port}"')


def _is_range(text: str) -> bool:
    """A port or ``first-last``."""
    first, dash, last = text.partition("-")
    if not _is_port(first) or (dash and not _is_port(last)):
        return False
    return not dash or int(first) <= int(last)


def _is_port(text: str) -> bool:
    return bool(_PORT.match(text)) and int(text) <= 65535
