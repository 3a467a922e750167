"""Configuring the network from inside its namespace: rtnetlink messages, packed by hand.

All requests go out in one write each and are acknowledged in order; there is one socket for the
whole configuration, so that a container's network costs well under a millisecond
(rtnetlink(7), linux/rtnetlink.h, linux/if_link.h).
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING

from services.containerd_shim.runtime.failures import StartError

if TYPE_CHECKING:
    from services.protocol import task_pb2 as pb

_RTM_NEWLINK, _RTM_NEWADDR, _RTM_NEWROUTE, _RTM_GETLINK = 16, 20, 24, 18
_NLMSG_ERROR = 2
_F_REQUEST, _F_ACK, _F_CREATE, _F_REPLACE = 0x1, 0x4, 0x400, 0x100
_IFF_UP = 0x1
_IFLA_ADDRESS, _IFLA_MTU = 1, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST = 254, 3, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_LOOPBACK = 1


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


class _Route:
    """A NETLINK_ROUTE socket; every request is answered before the next is sent."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes, what: str) -> None:
        """Send one message and wait for its acknowledgement; *what* names it in the error."""
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | _F_REQUEST | _F_ACK, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            data = self._socket.recv(1 << 16)
            _length, answer, _flags, sequence, _pid = struct.unpack_from("=IHHII", data)
            if answer == _NLMSG_ERROR and sequence == self._sequence:
                (code,) = struct.unpack_from("=i", data, 16)
                if code:
                    raise StartError(f"{what}: {os.strerror(-code).lower()}")
                return


def _link(index: int, flags: int, *attributes: bytes) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, flags) + b"".join(attributes)


def _address(index: int, text: str) -> bytes:
    interface = ipaddress.ip_interface(text)
    v4 = interface.version == 4
    family = socket.AF_INET if v4 else socket.AF_INET6
    head = struct.pack("=BBBBI", family, interface.network.prefixlen, 0, _SCOPE_UNIVERSE, index)
    body = _attribute(_IFA_ADDRESS, interface.packed)
    if v4:
        body += _attribute(_IFA_LOCAL, interface.packed)
        if interface.network.prefixlen < 31:
            body += _attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    else:
        body += _attribute(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD))
    return head + body


def _route(route: pb.NetworkRoute, index: int) -> bytes:
    gateway = ipaddress.ip_address(route.gateway) if route.gateway else None
    if route.destination in ("", "default"):
        v6 = gateway is not None and gateway.version == 6
        destination, length = b"", 0
    else:
        network = ipaddress.ip_network(route.destination, strict=False)
        v6 = network.version == 6
        destination, length = network.network_address.packed, network.prefixlen
    family = socket.AF_INET6 if v6 else socket.AF_INET
    scope = _SCOPE_UNIVERSE if gateway is not None or v6 else _SCOPE_LINK
    head = struct.pack(
        "=BBBBBBBBI", family, length, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0
    )
    body = _attribute(_RTA_DST, destination) if destination else b""
    if gateway is not None:
        body += _attribute(_RTA_GATEWAY, gateway.packed)
    return head + body + (_attribute(_RTA_OIF, struct.pack("=I", index)) if index else b"")


def loopback_up() -> None:
    """Bring ``lo`` up; a network namespace is born with it down."""
    route = _Route()
    try:
        route.request(_RTM_NEWLINK, 0, _link(_LOOPBACK, _IFF_UP), "set link lo up")
    finally:
        route.close()


def configure(setup: pb.NetworkSetup, proc_sys: int) -> None:
    """Set up interfaces, addresses, sysctls, then routes. *proc_sys* is a writable ``/proc/sys``.

    Raises StartError naming what the kernel refused.
    """
    route = _Route()
    try:
        for interface in setup.interfaces:
            _configure_interface(route, interface, proc_sys)
        for entry in setup.routes:
            index = socket.if_nametoindex(entry.interface) if entry.interface else 0
            what = f"add route {entry.destination or 'default'} via {entry.gateway or entry.interface}"
            route.request(_RTM_NEWROUTE, _F_CREATE | _F_REPLACE, _route(entry, index), what)
    except OSError as error:
        raise StartError(f"network: {(error.strerror or str(error)).lower()}") from error
    finally:
        route.close()


def _configure_interface(route: _Route, interface: pb.NetworkInterface, proc_sys: int) -> None:
    name = interface.name
    try:
        index = socket.if_nametoindex(name)
    except OSError as error:
        raise StartError(f"Link not found: {name}") from error
    attributes = []
    if interface.mac_address:
        attributes.append(_attribute(_IFLA_ADDRESS, bytes.fromhex(interface.mac_address.replace(":", ""))))
    if interface.mtu:
        attributes.append(_attribute(_IFLA_MTU, struct.pack("=I", interface.mtu)))
    if attributes:
        route.request(_RTM_NEWLINK, 0, _link(index, 0, *attributes), f"set mac address or MTU of {name}")
    for key, value in interface.sysctls.items():
        write_sysctl(proc_sys, key.replace("IFNAME", name), value)
    for address in interface.addresses:
        route.request(
            _RTM_NEWADDR, _F_CREATE | _F_REPLACE, _address(index, address), f"add address {address} to {name}"
        )
    route.request(_RTM_NEWLINK, 0, _link(index, _IFF_UP), f"set link {name} up")


def sysctl_path(key: str) -> str:
    """``net.ipv4.ip_forward`` or ``net/ipv4/ip_forward`` as a path below ``/proc/sys`` (sysctl(8)).

    Whichever of "." and "/" comes first separates; the other is then part of a name and swapped.
    """
    first = next((char for char in key if char in "./"), "/")
    if first == ".":
        key = key.translate(str.maketrans("./", "/."))
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise OSError(errno.EINVAL, "invalid sysctl name", key)
    return key


def write_sysctl(proc_sys: int, key: str, value: str) -> None:
    path, action = sysctl_path(key), "open"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_sys)
        action = "write"
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise StartError(f"{action} /proc/sys/{path}: {(error.strerror or str(error)).lower()}") from error


def is_interface_sysctl(key: str) -> bool:
    """``net.ipv4.conf.eth0.forwarding`` and its like exist only while the interface does."""
    parts = sysctl_path(key).split("/")
    return (
        len(parts) > 3
        and parts[0] == "net"
        and parts[2] in ("conf", "neigh")
        and parts[3]
        not in (
            "all",
            "default",
        )
    )
