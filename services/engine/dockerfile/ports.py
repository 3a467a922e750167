"""What EXPOSE takes: ``[[ip:]host:]port[-port][/protocol]``, of which only the container's port counts.

Texts are those of docker/go-connections (``nat.ParsePortSpec``).
"""

from __future__ import annotations

import re

from services.engine.addresses import is_address
from services.protocol.errors import InvalidParameter

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_HIGHEST = 65535


def exposed(spec: str) -> list[str]:
    """``port/protocol`` of all ports of *spec*. Raises ``InvalidParameter``."""
    rest, _, port = spec.rpartition(":")
    address, _, host = rest.rpartition(":")
    port, _, protocol = port.partition("/")
    protocol = protocol.lower() or "tcp"
    if not port:
        raise InvalidParameter(f"no port specified: {spec}<empty>")
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidParameter(f"invalid proto: {protocol}")
    if address and not is_address(address.removeprefix("[").removesuffix("]")):
        raise InvalidParameter(f"invalid IP address: {address}")
    if (ports := _range(port)) is None:
        raise InvalidParameter(f"invalid containerPort: {port}")
    if host:
        _check_host(host, port, ports)
    return [f"{number}/{protocol}" for number in ports]


def _check_host(host: str, port: str, ports: range) -> None:
    """The host's ports mean nothing in an image, but have to be right."""
    hosts = _range(host)
    if hosts is None:
        raise InvalidParameter(f"invalid hostPort: {host}")
    if len(hosts) != len(ports) and len(ports) > 1:
        raise InvalidParameter(f"invalid ranges specified for container and host Ports: {port} and {host}")


def _range(text: str) -> range | None:
    match = _RANGE.fullmatch(text)
    if match is None or len(text) > len("65535-65535"):
        return None
    low, high = int(match[1]), int(match[2] or match[1])
    return range(low, high + 1) if low <= high <= _HIGHEST else None
