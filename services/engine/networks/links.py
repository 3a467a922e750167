"""Links, addresses and routes by RTNETLINK (rtnetlink(7), linux/if_link.h)."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from services.engine.networks.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    NetlinkError,
    NetlinkSocket,
    attribute,
    nested,
    parse,
    string,
    text,
    u8,
    u32,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER = 1, 3, 4, 10
IFLA_LINKINFO, IFLA_AF_SPEC, IFLA_NET_NS_FD = 18, 26, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1
_VETH_INFO_PEER = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_TABLE = 1, 4, 5, 15
_IFF_UP = 1
_RT_TABLE_MAIN = 254

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Link:
    """``kind`` is the driver (bridge, veth, ...), empty for hardware."""

    index: int
    name: str
    kind: str
    master: int
    mac: str
    up: bool


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0, family: int = socket.AF_UNSPEC) -> bytes:
    return struct.pack("=BxHiII", family, 0, index, flags, change)


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", "").replace("-", ""))


class Links:
    """Operations on the links of one namespace; blocking, one thread at a time."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(socket.NETLINK_ROUTE)

    def close(self) -> None:
        self._socket.close()

    def links(self) -> list[Link]:
        found = []
        for kind, payload in self._socket.dump(Message(RTM_GETLINK, 0, _ifinfo())):
            if kind == RTM_NEWLINK:
                found.append(_decode_link(payload))
        return found

    def create_bridge(self, name: str, mac: str, mtu: int) -> None:
        """A bridge, up. The fixed address keeps it from following its ports' lowest one.

        Only a change of the MTU keeps it from following theirs; that of a new link does not.
        """
        payload = _ifinfo(flags=_IFF_UP, change=_IFF_UP) + text(IFLA_IFNAME, name)
        payload += attribute(IFLA_ADDRESS, _mac(mac))
        payload += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
        messages = [Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload)]
        if mtu:
            size = _ifinfo() + text(IFLA_IFNAME, name) + u32(IFLA_MTU, mtu)
            messages.append(Message(RTM_NEWLINK, 0, size))
        self._socket.request(*messages)

    def create_dummy(self, name: str) -> None:
        payload = _ifinfo() + text(IFLA_IFNAME, name)
        payload += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "dummy"))
        self._socket.request(Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload))

    def create_veth(
        self, name: str, bridge: int, peer: str, mac: str, mtu: int, namespace: int, *, isolated: bool
    ) -> None:
        """A pair: *name* on *bridge* (its index), *peer* in the namespace of the descriptor.

        Two messages in one datagram: attributes of a bridge port can only be set on a link that is
        there. The host's end gets no IPv6 address (a port needs none). A frame may leave by the
        port it came from, which is how a container reaches its own published port.
        """
        size = u32(IFLA_MTU, mtu) if mtu else b""
        far = _ifinfo() + text(IFLA_IFNAME, peer) + attribute(IFLA_ADDRESS, _mac(mac)) + size
        far += u32(IFLA_NET_NS_FD, namespace)
        kind = text(IFLA_INFO_KIND, "veth")
        create = _ifinfo() + text(IFLA_IFNAME, name) + size
        create += nested(IFLA_LINKINFO, kind, nested(IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, far)))
        create += u32(IFLA_MASTER, bridge)
        port = nested(IFLA_INFO_SLAVE_DATA, u8(IFLA_BRPORT_MODE, 1), u8(IFLA_BRPORT_ISOLATED, int(isolated)))
        modify = _ifinfo(flags=_IFF_UP, change=_IFF_UP) + text(IFLA_IFNAME, name)
        modify += nested(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), port)
        modify += nested(IFLA_AF_SPEC, nested(socket.AF_INET6, u8(IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE)))
        created, modified = self._socket.transact(
            [
                Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, create),
                Message(RTM_NEWLINK, 0, modify),
            ]
        )
        if created:
            raise NetlinkError(created, os.strerror(created))
        if modified:
            self.delete([name])
            raise NetlinkError(modified, os.strerror(modified))

    def delete(self, names: Sequence[str]) -> None:
        """Links that are gone already are no error."""
        messages = [Message(RTM_DELLINK, 0, _ifinfo() + text(IFLA_IFNAME, name)) for name in names]
        for code in self._socket.transact(messages):
            if code not in (0, errno.ENODEV):
                raise NetlinkError(code, os.strerror(code))

    def configure(
        self, name: str, addresses: Sequence[Interface], gateways: Sequence[tuple[Network | None, str]]
    ) -> None:
        """Addresses of a link, the link up, and routes through it (None is the default route)."""
        index = self.index(name)
        messages = [_address(RTM_NEWADDR, index, address) for address in addresses]
        messages.append(Message(RTM_NEWLINK, 0, _ifinfo(index, _IFF_UP, _IFF_UP)))
        messages += [_route(index, destination, gateway) for destination, gateway in gateways]
        self._socket.request(*messages)

    def add_address(self, index: int, address: Interface) -> None:
        """An address that is there already is no error."""
        (code,) = self._socket.transact([_address(RTM_NEWADDR, index, address)])
        if code not in (0, errno.EEXIST):
            raise NetlinkError(code, os.strerror(code))

    def remove_address(self, index: int, address: Interface) -> None:
        self._socket.transact([_address(RTM_DELADDR, index, address, flags=0)])

    def set_master(self, name: str, bridge: int) -> None:
        """*name* becomes a port of the bridge with this index."""
        payload = _ifinfo() + text(IFLA_IFNAME, name) + u32(IFLA_MASTER, bridge)
        self._socket.request(Message(RTM_NEWLINK, 0, payload))

    def set_up(self, index: int) -> None:
        self._socket.request(Message(RTM_NEWLINK, 0, _ifinfo(index, _IFF_UP, _IFF_UP)))

    def replace_default(self, name: str, gateway: str) -> None:
        """The default route goes through *gateway* on *name* from here on."""
        self._socket.request(_route(self.index(name), None, gateway, replace=True))

    def index(self, name: str) -> int:
        """Raises :class:`NetlinkError` (ENODEV)."""
        for link in self.links():
            if link.name == name:
                return link.index
        raise NetlinkError(errno.ENODEV, os.strerror(errno.ENODEV))

    def addresses(self) -> list[tuple[int, Interface]]:
        """(link index, address) of all links."""
        found = []
        for kind, payload in self._socket.dump(Message(RTM_GETADDR, 0, bytes(8))):
            if kind != RTM_NEWADDR:
                continue
            family, prefix, _, _, index = struct.unpack_from("=BBBBI", payload)
            attributes = parse(payload[8:])
            raw = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
            if raw and family in (socket.AF_INET, socket.AF_INET6):
                found.append((index, ipaddress.ip_interface((raw, prefix))))
        return found

    def destinations(self) -> list[Network]:
        """Destinations of the main table's routes, without default routes and host routes."""
        found = []
        for kind, payload in self._socket.dump(Message(RTM_GETROUTE, 0, bytes(12))):
            family, length, _, _, table = struct.unpack_from("=BBBBB", payload)
            attributes = parse(payload[12:])
            raw = attributes.get(RTA_DST)
            whole = 32 if family == socket.AF_INET else 128
            if kind == RTM_NEWROUTE and raw and 0 < length < whole and table == _RT_TABLE_MAIN:
                found.append(ipaddress.ip_network((raw, length), strict=False))
        return found


def _decode_link(payload: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", payload)
    attributes = parse(payload[16:])
    info = parse(attributes.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=string(attributes.get(IFLA_IFNAME, b"")),
        kind=string(info.get(IFLA_INFO_KIND, b"")),
        master=struct.unpack("=I", attributes[IFLA_MASTER])[0] if IFLA_MASTER in attributes else 0,
        mac=attributes.get(IFLA_ADDRESS, b"").hex(":"),
        up=bool(flags & _IFF_UP),
    )


def _address(kind: int, index: int, address: Interface, flags: int = NLM_F_CREATE | NLM_F_EXCL) -> Message:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    payload = struct.pack("=BBBBI", family, address.network.prefixlen, 0, 0, index)
    payload += attribute(IFA_LOCAL, address.ip.packed) + attribute(IFA_ADDRESS, address.ip.packed)
    if address.version == 4 and address.network.prefixlen < 31:
        payload += attribute(IFA_BROADCAST, address.network.broadcast_address.packed)
    return Message(kind, flags, payload)


def _route(index: int, destination: Network | None, gateway: str, *, replace: bool = False) -> Message:
    address = ipaddress.ip_address(gateway)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    length = destination.prefixlen if destination else 0
    # table main, protocol boot (3), scope universe, type unicast (1)
    payload = struct.pack("=BBBBBBBBI", family, length, 0, 0, _RT_TABLE_MAIN, 3, 0, 1, 0)
    if destination:
        payload += attribute(RTA_DST, destination.network_address.packed)
    payload += attribute(RTA_GATEWAY, address.packed) + u32(RTA_OIF, index)
    return Message(RTM_NEWROUTE, NLM_F_CREATE | (0x100 if replace else NLM_F_EXCL), payload)
