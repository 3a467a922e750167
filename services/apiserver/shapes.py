"""What Go's decoders of the API's own types refuse while the JSON is read.

Ports, addresses, prefixes and hardware addresses are types of their own in Docker's API, so a
malformed one is an error of the JSON (``invalid JSON: ...``), before anything else is looked at.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

from msgspec import UNSET

from services.protocol.api.containers import CreateRequest, Resources
from services.protocol.api.networks import EndpointSettings, NetworkCreateRequest
from services.protocol.errors import InvalidParameter, SystemError_

_MAC = re.compile(
    r"[0-9a-fA-F]{2}(?:(:|-)[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}(?:(?:\1[0-9a-fA-F]{2}){2})?"
    r"|[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4}){2}(?:\.[0-9a-fA-F]{4})?"
)


#: Escapes are for what is not ASCII, and for the per cent sign.
_HOST_ESCAPE = re.compile(r"%(?!25|[89a-fA-F][0-9a-fA-F]).{0,2}")
_NOT_IN_HOST = re.compile(r"[\x00-\x20\x7f\\^`{|}]")


def _refuse(reason: str) -> InvalidParameter:
    return InvalidParameter(f"invalid JSON: {reason}")


def port(text: str) -> None:
    """``80/tcp``, ``80``: moby ``network.ParsePort``."""
    number, _, protocol = text.partition("/")
    if not number:
        raise _refuse("invalid port: value is empty")
    if not (number.isascii() and number.isdigit()):
        raise _refuse(f"invalid port '{number}': invalid syntax")
    if int(number) > 65535:
        raise _refuse(f"invalid port '{number}': value out of range")
    if "/" in protocol:
        raise _refuse(f"invalid port '{text}': invalid syntax")


def normal_port(text: str) -> str:
    """:func:`port` as Docker writes it: TCP where nothing is said, the protocol in lower case."""
    port(text)
    number, _, protocol = text.partition("/")
    return f"{int(number)}/{protocol.lower() or 'tcp'}"


def address(text: object) -> None:
    """An IP address, possibly with a zone, or empty: ``netip.Addr``."""
    if not isinstance(text, str) or not text:
        return
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise _refuse(f'ParseAddr("{text}"): unable to parse IP') from None


def prefix(text: object) -> None:
    """An address with its prefix length, or empty: ``netip.Prefix``."""
    if not isinstance(text, str) or not text:
        return
    host, slash, bits = text.partition("/")
    if not slash:
        raise _refuse(f"netip.ParsePrefix(\"{text}\"): no '/'")
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        raise _refuse(f'netip.ParsePrefix("{text}"): ParseAddr("{host}"): unable to parse IP') from None
    if not (bits.isascii() and bits.isdigit()):
        raise _refuse(f'netip.ParsePrefix("{text}"): bad bits after slash: "{bits}"')
    if int(bits) > parsed.max_prefixlen:
        raise _refuse(f'netip.ParsePrefix("{text}"): prefix length out of range')


def hardware_address(text: object) -> None:
    if isinstance(text, str) and text and not _MAC.fullmatch(text):
        raise _refuse(f"address {text}: invalid MAC address")


def endpoint(settings: EndpointSettings | None) -> None:
    if settings is None:
        return
    hardware_address(settings.mac_address)
    for text in (settings.gateway, settings.ip_address, settings.ipv6_gateway, settings.global_ipv6_address):
        address(text)
    if (ipam := settings.ipam_config) is not None:
        address(ipam.ipv4_address)
        address(ipam.ipv6_address)
        _each(ipam.link_local_ips, address)


def server_address(text: str) -> None:
    """The registry of a login: what Go's ``url.Parse`` refuses of it, in its words."""
    url = text if text.startswith(("https://", "http://")) else f"https://{text}"
    if text and (problem := _url_problem(url)):
        quoted = json.dumps(url, ensure_ascii=False)
        raise InvalidParameter(f"unable to parse server address: parse {quoted}: {problem}")
    host = _authority(url).partition(":")[0].removesuffix(".")
    if text and not all(0 < len(label.encode()) < 64 for label in host.split(".")) and host[:1] != "[":
        raise SystemError_(f'Get "https://{host}/v2/": dial tcp: lookup {host}: no such host')


def _authority(url: str) -> str:
    return re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]


def _url_problem(url: str) -> str:
    if any(character < " " or character == "\x7f" for character in url):
        return "net/url: invalid control character in URL"
    host = _authority(url)
    if (bad := _HOST_ESCAPE.search(host)) is not None:
        return f'invalid URL escape "{bad[0]}"'
    if (bad := _NOT_IN_HOST.search(host)) is not None:
        return f'invalid character "{bad[0]}" in host name'
    address, bracket, port = host.rpartition("]") if host.startswith("[") else (host, "", "")
    if host.startswith("[") and not bracket:
        return "missing ']' in host"
    if not bracket and ":" in host:
        port = host[host.index(":") :]
    if port and not re.fullmatch(":[0-9]*", port):
        return f'invalid port "{port}" after host'
    return ""


def console_size(size: list[int] | None, field: str) -> list[int] | None:
    """``[height, width]``: two of Go's ``uint``, of which a terminal takes 16 bits."""
    if size is None:
        return None
    for number in size:
        if number < 0:
            where = f"{field}.ConsoleSize of type uint"
            raise _refuse(f"json: cannot unmarshal number {number} into Go struct field {where}")
    return [number & 0xFFFF for number in [*size, 0, 0][:2]]


def resources(limits: Resources, field: str) -> None:
    """Numbers that are smaller in Go than in JSON: weights of 16 bits, rates without a sign."""
    _unsigned(limits.blkio_weight, 16, f"{field}.BlkioWeight")
    for weighed in limits.blkio_weight_device or ():
        _unsigned(weighed.weight, 16, f"{field}.BlkioWeightDevice.Weight")
    for name, throttles in (
        ("BlkioDeviceReadBps", limits.blkio_device_read_bps),
        ("BlkioDeviceWriteBps", limits.blkio_device_write_bps),
        ("BlkioDeviceReadIOps", limits.blkio_device_read_iops),
        ("BlkioDeviceWriteIOps", limits.blkio_device_write_iops),
    ):
        for throttle in throttles or ():
            _unsigned(throttle.rate, 64, f"{field}.{name}.Rate")


def _unsigned(number: int, bits: int, where: str) -> None:
    if not 0 <= number < 1 << bits:
        raise _refuse(
            f"json: cannot unmarshal number {number} into Go struct field {where} of type uint{bits}"
        )


def create_request(request: CreateRequest) -> None:
    """``POST /containers/create``."""
    if request.exposed_ports is not UNSET:
        request.exposed_ports = {normal_port(key): value for key, value in request.exposed_ports.items()}
    host = request.host_config
    if host is not None:
        resources(host, "CreateRequest.HostConfig")
        host.console_size = console_size(host.console_size, "CreateRequest.HostConfig")
        if host.port_bindings is not None:
            host.port_bindings = {normal_port(key): given for key, given in host.port_bindings.items()}
            for binding in itertools.chain.from_iterable(
                given or () for given in host.port_bindings.values()
            ):
                address(binding.host_ip)
        _each(host.dns, address)
    networking = request.networking_config
    for settings in ((networking.endpoints_config if networking else None) or {}).values():
        endpoint(settings)


def network_create(request: NetworkCreateRequest) -> None:
    """``POST /networks/create``."""
    for pool in (request.ipam.config if request.ipam else None) or ():
        prefix(pool.subnet)
        prefix(pool.ip_range)
        address(pool.gateway)
        if pool.auxiliary_addresses is not UNSET:
            _each(pool.auxiliary_addresses.values(), address)


def _each(items: Iterable[Any] | None | object, check: Any) -> None:
    if items is None or items is UNSET:
        return
    for item in items:  # type: ignore[attr-defined]
        check(item)
