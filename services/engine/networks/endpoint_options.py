"""What a request asks of one endpoint's interface: its name, kernel parameters, link-local addresses."""

from __future__ import annotations

import ipaddress

from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import InvalidParameter

IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
_FAMILIES = ("ipv4", "ipv6", "mpls")
#: The place of the interface's name; the docker command writes it in lower case.
_PLACE = ("IFNAME", "ifname")
#: Bits of the class B network that link-local addresses are of.
_LINK_LOCAL_PREFIX = 16


def interface_name(settings: EndpointSettings) -> str:
    """Empty: the next of the usual names."""
    return (settings.driver_opts or {}).get(IFNAME, "")


def sysctls(settings: EndpointSettings, interface: str) -> dict[str, str]:
    """``net.ipv4.conf.IFNAME.log_martians=1,...`` with the name of the *interface* in its place."""
    found = {}
    for entry in _entries(settings):
        key, _, value = entry.partition("=")
        net, family, kind, _, rest = key.split(".", 4)
        # In a key whose parts are parted by dots a dot of the name is a slash (sysctl(8)).
        found[".".join((net, family, kind, interface.replace(".", "/"), rest))] = value
    return found


def address_problems(settings: EndpointSettings) -> list[str]:
    """What is no address of its kind (moby ``normalizeEndpointIPAMConfig``); text that is none at all was
    refused before."""
    found = []
    config = settings.ipam_config
    given = (config.ipv4_address, config.ipv6_address) if config is not None else ()
    for version, text in zip((4, 6), given, strict=False):
        if isinstance(text, str) and text and not _is_of(version, text):
            found.append(f"invalid IPv{version} address: {text}")
    for text in _link_local(settings):
        if ipaddress.ip_address(text).is_unspecified:
            found.append(f"invalid link-local IP address: {text}")
    return found


def _is_of(version: int, text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
    return not address.is_unspecified and (4 if mapped else address.version) == version


def sysctl_problems(settings: EndpointSettings) -> list[str]:
    """Entries that do not name the interface by its place."""
    found = []
    for entry in _entries(settings):
        parts = entry.split(".", 4)
        if len(parts) != 5 or parts[1] not in _FAMILIES or parts[3] not in _PLACE:
            found.append(
                f"unrecognised network interface sysctl '{entry}'; represent 'net.X.Y.ethN.Z=V' as "
                "'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )
    return found


def check_link_local(settings: EndpointSettings) -> None:
    """What is asked for as link-local is so, which libnetwork looks at when the endpoint is made."""
    for address in _link_local(settings):
        if not ipaddress.ip_address(address).is_link_local:
            raise InvalidParameter(f"invalid link local IP address: {address}")


def link_local(settings: EndpointSettings) -> list[str]:
    """With their prefix; those of IPv6 wait for IPv6."""
    return [f"{one}/{_LINK_LOCAL_PREFIX}" for one in _link_local(settings) if ":" not in one]


def _entries(settings: EndpointSettings) -> list[str]:
    text = (settings.driver_opts or {}).get(SYSCTLS, "")
    return text.split(",") if text else []


def _link_local(settings: EndpointSettings) -> list[str]:
    config = settings.ipam_config
    given = config.link_local_ips if config is not None else None
    return [one for one in given or [] if isinstance(one, str)] if isinstance(given, list) else []
