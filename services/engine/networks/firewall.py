"""The daemon's nf_tables table: NAT, published ports, isolation of networks.

All of it is lookups in sets and maps, so that a packet's way does not grow with the number of
containers, ports or networks::

    raw          a container must not reach the host's loopback by route_localnet: drop
    prerouting   to this host -> publish: (address, protocol, port) or (protocol, port) -> dnat
    output       the same for the host's own connections
    forward      within a bridge: accept (unless icc is off)
                 into or out of an internal network: drop
                 into a bridge: accept if established, related or through a published port; else drop
    postrouting  from loopback into a bridge: masquerade
                 from a network's subnet -> its chain: masquerade when leaving the bridge, and when
                 coming back into it through a published port

The table is the memory's image: a change is one transaction; if the kernel refuses it (somebody
flushed the ruleset), the whole table is made again, in one transaction too.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Iterable

import msgspec

from services.engine.networks import nftables as nft
from services.engine.networks.netlink import Message, NetlinkError, NetlinkSocket

log = logging.getLogger(__name__)

_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_LOOPBACK = bytes([127])
_RAW, _DSTNAT, _FILTER, _SRCNAT = -300, -100, 0, 100


class BridgeRules(msgspec.Struct, frozen=True):
    """What a network asks of the firewall; ``subnets`` are its IPv4 ones."""

    bridge: str
    subnets: tuple[str, ...]
    icc: bool = True
    internal: bool = False
    masquerade: bool = True


class PortRule(msgspec.Struct, frozen=True):
    """A published port: to *host_ip* ("0.0.0.0" is any) and *host_port* -> the container."""

    protocol: str
    host_ip: str
    host_port: int
    container_ip: str
    container_port: int


class Firewall:
    """Blocking; used by one thread at a time."""

    def __init__(self, name: str) -> None:
        self._table = nft.Table(name, nft.FAMILY_IP)
        #: Of family NETLINK_NETFILTER; may be used for other subsystems of it between the calls.
        self.socket = NetlinkSocket(nft.NETLINK_NETFILTER)
        self._bridges: dict[str, BridgeRules] = {}
        self._ports: set[PortRule] = set()

    def close(self) -> None:
        self.socket.close()

    def reset(self, bridges: Iterable[BridgeRules], ports: Iterable[PortRule]) -> None:
        """The table holds exactly these, whatever was there."""
        self._bridges = {rules.bridge: rules for rules in bridges}
        self._ports = set(ports)
        self._rebuild()

    def destroy(self) -> None:
        """The table is gone. Creating it first makes a missing one no error."""
        self._bridges.clear()
        self._ports.clear()
        nft.commit(self.socket, [self._table.create(), self._table.delete()])

    def add_bridge(self, rules: BridgeRules) -> None:
        """Those that are there stay: a connection begun while they were gone would never be translated."""
        if self._bridges.get(rules.bridge) == rules:
            return
        self.remove_bridge(rules.bridge)
        self._bridges[rules.bridge] = rules
        self._apply(_add_bridge(self._table, rules))

    def remove_bridge(self, bridge: str) -> None:
        rules = self._bridges.pop(bridge, None)
        if rules is not None:
            self._apply(_remove_bridge(self._table, rules))

    def change_ports(self, remove: Iterable[PortRule], add: Iterable[PortRule]) -> None:
        gone = set(remove) & self._ports
        new = set(add) - (self._ports - gone)
        self._ports = (self._ports - gone) | new
        messages = []
        for name, wildcard in (("ports", False), ("wildcard_ports", True)):
            if elements := [_port_key(rule) for rule in gone if _is_wildcard(rule) == wildcard]:
                messages.append(self._table.remove(name, *map(nft.element, elements)))
            if elements := [_port_element(rule) for rule in new if _is_wildcard(rule) == wildcard]:
                messages.append(self._table.add(name, *elements))
        if messages:
            self._apply(messages)

    def _apply(self, messages: list[Message]) -> None:
        try:
            nft.commit(self.socket, messages)
        except NetlinkError as error:
            log.warning("table %s is not as it was left (%s); made again", self._table.name, error)
            self._rebuild()

    def _rebuild(self) -> None:
        table = self._table
        messages = [table.create(), table.delete(), table.create(), *_skeleton(table)]
        for rules in self._bridges.values():
            messages += _add_bridge(table, rules)
        for name, wildcard in (("ports", False), ("wildcard_ports", True)):
            elements = [_port_element(rule) for rule in self._ports if _is_wildcard(rule) == wildcard]
            for start in range(0, len(elements), 256):  # an attribute's length is 16 bits
                messages.append(table.add(name, *elements[start : start + 256]))
        nft.commit(self.socket, messages)


def _skeleton(table: nft.Table) -> list[Message]:
    target = (nft.IPV4_ADDR, nft.INET_SERVICE)
    accept, drop = nft.verdict(nft.ACCEPT), nft.verdict(nft.DROP)
    from_bridge = (nft.meta(nft.META_IIFNAME), nft.lookup("bridges"))
    to_bridge = (nft.meta(nft.META_OIFNAME), nft.lookup("bridges"))
    same = (nft.meta(nft.META_IIFNAME), nft.meta(nft.META_OIFNAME, nft.REG_2), nft.lookup("same"))
    publish = (*nft.to_local(), nft.verdict(nft.JUMP, "publish"))
    return [
        table.set("bridges", (nft.IFNAME,), number=1),
        table.set("same", (nft.IFNAME, nft.IFNAME), number=2),
        table.set("internal", (nft.IFNAME,), number=3),
        table.set("ports", (nft.IPV4_ADDR, nft.INET_PROTO, nft.INET_SERVICE), data=target, number=4),
        table.set("wildcard_ports", (nft.INET_PROTO, nft.INET_SERVICE), data=target, number=5),
        table.set("subnets", (nft.IPV4_ADDR,), data=(nft.VERDICT,), flags=nft.SET_INTERVAL, number=6),
        table.chain("publish"),
        table.rule(
            "publish",
            nft.network_header(16, 4),
            nft.meta(nft.META_L4PROTO, nft.REG32_1),
            nft.transport_header(2, 2, nft.REG32_2),
            nft.lookup("ports", nft.REG_1),
            nft.dnat(table.family),
        ),
        table.rule(
            "publish",
            nft.meta(nft.META_L4PROTO),
            nft.transport_header(2, 2, nft.REG32_1),
            nft.lookup("wildcard_ports", nft.REG_1),
            nft.dnat(table.family),
        ),
        table.base_chain("raw", "filter", nft.PREROUTING, _RAW),
        table.rule("raw", nft.network_header(16, 1), nft.equals(_LOOPBACK), *from_bridge, drop),
        table.base_chain("prerouting", "nat", nft.PREROUTING, _DSTNAT),
        table.rule("prerouting", *publish),
        table.base_chain("output", "nat", nft.OUTPUT, _DSTNAT),
        table.rule("output", *publish),
        table.chain("inbound"),
        table.rule("inbound", *nft.ct_has(nft.CT_STATE, nft.STATE_ESTABLISHED_RELATED), accept),
        table.rule("inbound", *nft.ct_has(nft.CT_STATUS, nft.STATUS_DNAT), accept),
        table.rule("inbound", drop),
        table.base_chain("forward", "filter", nft.FORWARD, _FILTER),
        table.rule("forward", *same, accept),
        table.rule("forward", nft.meta(nft.META_IIFNAME), nft.lookup("internal"), drop),
        table.rule("forward", nft.meta(nft.META_OIFNAME), nft.lookup("internal"), drop),
        table.rule("forward", *to_bridge, nft.verdict(nft.JUMP, "inbound")),
        table.base_chain("postrouting", "nat", nft.POSTROUTING, _SRCNAT),
        table.rule(
            "postrouting", nft.network_header(12, 1), nft.equals(_LOOPBACK), *to_bridge, nft.masquerade()
        ),
        table.rule("postrouting", nft.network_header(12, 4), nft.lookup("subnets", nft.REG_VERDICT)),
    ]


def _chain_name(rules: BridgeRules) -> str:
    return f"from-{rules.bridge}"


def _subnet_elements(rules: BridgeRules) -> list[bytes]:
    elements = []
    for subnet in rules.subnets:
        network = ipaddress.IPv4Network(subnet)
        elements.append(nft.verdict_element(network.network_address.packed, _chain_name(rules)))
        elements.append(nft.interval_end((network.broadcast_address + 1).packed))
    return elements


def _add_bridge(table: nft.Table, rules: BridgeRules) -> list[Message]:
    name, chain = nft.ifname(rules.bridge), _chain_name(rules)
    leaves = (nft.meta(nft.META_OIFNAME), nft.differs(name))
    returns = (nft.meta(nft.META_OIFNAME), nft.equals(name), *nft.ct_has(nft.CT_STATUS, nft.STATUS_DNAT))
    messages = [table.add("bridges", nft.element(name)), table.chain(chain)]
    if rules.masquerade and not rules.internal:
        messages.append(table.rule(chain, *leaves, nft.masquerade()))
    messages.append(table.rule(chain, *returns, nft.masquerade()))
    if rules.icc:
        messages.append(table.add("same", nft.element(nft.key(name, name))))
    if rules.internal:
        messages.append(table.add("internal", nft.element(name)))
    if elements := _subnet_elements(rules):
        messages.append(table.add("subnets", *elements))
    return messages


def _remove_bridge(table: nft.Table, rules: BridgeRules) -> list[Message]:
    name = nft.ifname(rules.bridge)
    messages = []
    if elements := _subnet_elements(rules):
        messages.append(table.remove("subnets", *elements))
    messages.append(table.remove("bridges", nft.element(name)))
    if rules.icc:
        messages.append(table.remove("same", nft.element(nft.key(name, name))))
    if rules.internal:
        messages.append(table.remove("internal", nft.element(name)))
    return [*messages, *table.delete_chain(_chain_name(rules))]


def _is_wildcard(rule: PortRule) -> bool:
    return rule.host_ip == "0.0.0.0"


def _port_key(rule: PortRule) -> bytes:
    service = (bytes([_PROTOCOLS[rule.protocol]]), nft.port(rule.host_port))
    if _is_wildcard(rule):
        return nft.key(*service)
    return nft.key(ipaddress.IPv4Address(rule.host_ip).packed, *service)


def _port_element(rule: PortRule) -> bytes:
    target = nft.key(ipaddress.IPv4Address(rule.container_ip).packed, nft.port(rule.container_port))
    return nft.element(_port_key(rule), target)
