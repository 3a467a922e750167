"""Bridge networks: a bridge on the host, a veth pair per container, NAT by the firewall."""

from __future__ import annotations

import errno
import ipaddress
import re
import secrets
from collections.abc import Mapping, Sequence

from services.engine.networks.firewall import BridgeRules
from services.engine.networks.kernel import Kernel, write_sysctl
from services.engine.networks.links import Link
from services.engine.networks.model import EndpointRecord, NetworkRecord
from services.engine.networks.netlink import NetlinkError
from services.protocol.errors import InvalidParameter, SystemError_, Unimplemented

PREFIX = "com.docker.network.bridge."
NAME = PREFIX + "name"
ICC = PREFIX + "enable_icc"
MASQUERADE = PREFIX + "enable_ip_masquerade"
HOST_BINDING = PREFIX + "host_binding_ipv4"
DEFAULT_BRIDGE = PREFIX + "default_bridge"
MTU = "com.docker.network.driver.mtu"
IFACE_PREFIX = "com.docker.network.container_iface_prefix"
INHIBIT = PREFIX + "inhibit_ipv4"
_GATEWAY_MODE_4, _GATEWAY_MODE_6 = PREFIX + "gateway_mode_ipv4", PREFIX + "gateway_mode_ipv6"
_GATEWAY_MODES = {_GATEWAY_MODE_4, _GATEWAY_MODE_6}
_MODES = ("nat", "nat-unprotected", "routed", "isolated")
_BOOLEANS = {ICC, MASQUERADE, DEFAULT_BRIDGE, INHIBIT}
#: What the request's own fields say too (daemon/libnetwork/netlabel).
ENABLE_IPV4, ENABLE_IPV6 = "com.docker.network.enable_ipv4", "com.docker.network.enable_ipv6"
#: Options that dockerd gives a meaning to and this engine does not.
_ABSENT = {PREFIX + "trusted_host_interfaces", "com.docker.network.host_ipv4"}
TRUE = {"1", "t", "T", "true", "TRUE", "True"}
FALSE = {"0", "f", "F", "false", "FALSE", "False"}
_IFNAME_MAX = 15


def truth(options: Mapping[str, str], name: str, default: bool) -> bool:
    """A Go boolean among the options; empty is the default."""
    value = options.get(name, "")
    return value in TRUE if value else default


def is_isolated(options: Mapping[str, str]) -> bool:
    """The host itself has no address in the network. (That of IPv6 has no effect without IPv6.)"""
    return "isolated" in (options.get(_GATEWAY_MODE_4), options.get(_GATEWAY_MODE_6))


def has_address(options: Mapping[str, str]) -> bool:
    """Whether the bridge has the gateway's address."""
    return options.get(_GATEWAY_MODE_4) != "isolated" and not truth(options, INHIBIT, False)


def mtu(options: Mapping[str, str]) -> int:
    """Bytes; 0 is the kernel's default."""
    value = options.get(MTU, "")
    return int(value) if value.isdigit() else 0


class BridgeDriver:
    name = "bridge"
    addresses = True

    def __init__(self, kernel: Kernel, *, ip_forward: bool) -> None:
        self._kernel = kernel
        self._ip_forward = ip_forward
        self._indexes: dict[str, int] = {}

    def options(self, options: Mapping[str, str], *, internal: bool = False) -> None:
        for name, value in options.items():
            if name in _BOOLEANS:
                if value not in TRUE | FALSE:
                    raise _unparsed(name, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')
            elif name == MTU:
                _check_mtu(name, value)
            elif name == NAME:
                if len(value) > _IFNAME_MAX:
                    raise SystemError_(
                        "failed to check bridge interface existence: numerical result out of range"
                    )
                if "/" in value or " " in value:
                    raise InvalidParameter(f'invalid interface name "{value}"')
            elif name == HOST_BINDING:
                _check_address(name, value)
            elif name in _GATEWAY_MODES:
                _check_gateway_mode(name, value)
            elif name in _ABSENT:
                raise Unimplemented(f"network option {name} is not implemented")
        if is_isolated(options) and not internal:
            raise SystemError_("gateway mode 'isolated' can only be used for an internal network")

    def needs_gateway(self, options: Mapping[str, str], *, internal: bool) -> bool:
        """moby ``GetSkipGwAlloc``."""
        return has_address(options) or (options.get(_GATEWAY_MODE_4) != "isolated" and not internal)

    def interface_name(self, network_id: str, options: Mapping[str, str]) -> str:
        return options.get(NAME) or f"br-{network_id[:12]}"

    def create(self, network: NetworkRecord) -> None:
        links = self._kernel.links
        try:
            link = self._adopt(network) or self._make(network)
            if network.owned and not network.enable_ipv6:
                write_sysctl(f"net/ipv6/conf/{network.interface}/disable_ipv6", "1")
            for pool in network.pools:
                if pool.gateway and "/" not in pool.gateway and has_address(network.options):
                    prefix = ipaddress.ip_network(pool.subnet, strict=False).prefixlen
                    links.add_address(link.index, ipaddress.ip_interface(f"{pool.gateway}/{prefix}"))
            if not link.up:
                links.set_up(link.index)
        except NetlinkError as error:
            raise SystemError_(f"failed to create bridge {network.interface}: {error.strerror}") from error
        self._indexes[network.interface] = link.index
        conf = f"net/ipv4/conf/{network.interface}"
        if self._kernel.firewall is not None:
            write_sysctl(f"{conf}/route_localnet", "1")
        if self._ip_forward and not network.internal:
            write_sysctl("net/ipv4/ip_forward", "1")
        if self._kernel.firewall is not None:
            self._kernel.firewall.add_bridge(bridge_rules(network))

    def _adopt(self, network: NetworkRecord) -> Link | None:
        for link in self._kernel.links.links():
            if link.name == network.interface:
                if link.kind != "bridge":
                    raise SystemError_(f"existing interface {link.name} is not a bridge")
                return link
        return None

    def _make(self, network: NetworkRecord) -> Link:
        links = self._kernel.links
        address = "02:42:" + secrets.token_bytes(4).hex(":")
        links.create_bridge(network.interface, address, mtu(network.options))
        return Link(links.index(network.interface), network.interface, "bridge", 0, address, True)

    def remove(self, network: NetworkRecord) -> None:
        self._indexes.pop(network.interface, None)
        if self._kernel.firewall is not None:
            self._kernel.firewall.remove_bridge(network.interface)
        if network.owned:
            try:
                self._kernel.links.delete([network.interface])
            except NetlinkError as error:
                text = f"failed to remove bridge {network.interface}: {error.strerror}"
                raise SystemError_(text) from error

    def join(self, network: NetworkRecord, endpoint: EndpointRecord, namespace: int) -> None:
        try:
            self._veth(network, endpoint, namespace)
        except NetlinkError as error:
            if error.errno not in (errno.ENODEV, errno.EINVAL, errno.EEXIST):
                raise SystemError_(f"failed to add {endpoint.host_interface}: {error.strerror}") from error
            # The bridge was made again behind our back, or a link of this name was left behind.
            try:
                self._kernel.links.delete([endpoint.host_interface])
                self.create(network)
                self._veth(network, endpoint, namespace)
            except NetlinkError as again:
                raise SystemError_(f"failed to add {endpoint.host_interface}: {again.strerror}") from again

    def _veth(self, network: NetworkRecord, endpoint: EndpointRecord, namespace: int) -> None:
        index = self._indexes.get(network.interface)
        if index is None:
            index = self._indexes[network.interface] = self._kernel.links.index(network.interface)
        self._kernel.links.create_veth(
            endpoint.host_interface,
            index,
            endpoint.interface,
            endpoint.mac_address,
            mtu(network.options),
            namespace,
            isolated=not truth(network.options, ICC, True),
        )

    def leave(self, endpoints: Sequence[EndpointRecord]) -> None:
        self._kernel.remove_links([one.host_interface for one in endpoints if one.host_interface])


def bridge_rules(network: NetworkRecord) -> BridgeRules:
    return BridgeRules(
        bridge=network.interface,
        subnets=tuple(pool.subnet for pool in network.pools if ":" not in pool.subnet),
        icc=truth(network.options, ICC, True),
        internal=network.internal,
        masquerade=truth(network.options, MASQUERADE, True),
    )


def _unparsed(name: str, value: str, reason: str) -> InvalidParameter:
    return InvalidParameter(f"failed to parse {name} value: {value} ({reason})")


def _check_mtu(name: str, value: str) -> None:
    if not re.fullmatch(r"[+-]?[0-9]+", value, re.ASCII):
        raise _unparsed(name, value, f'strconv.Atoi: parsing "{value}": invalid syntax')
    if int(value) < 0:
        raise InvalidParameter(f"invalid MTU number: {int(value)}")


def _check_address(name: str, value: str) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise _unparsed(name, value, "nil ip") from None


def _check_gateway_mode(name: str, value: str) -> None:
    """Without IPv6 only the mode of IPv4 has an effect."""
    if value not in _MODES:
        raise _unparsed(name, value, f"unknown gateway mode {value}")
    if name == _GATEWAY_MODE_4 and value not in ("nat", "isolated"):
        raise Unimplemented(f"{name}={value} is not implemented")
