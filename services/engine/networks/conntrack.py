"""Forgetting UDP flows whose published port has changed hands (ctnetlink).

A flow is translated as it was when its first packet came, for as long as packets follow. Without
this, a client that sent before the container was there, or to the one before it, would go on sending
to nowhere. TCP needs none of it: a stale connection is reset.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence

from services.engine.networks.firewall import PortRule
from services.engine.networks.netlink import Message, NetlinkSocket, nested, parse

_SUBSYSTEM = 1
_GET, _DELETE = 1, 2
_TUPLE_ORIG = 1
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_DESTINATION = 2
_NUMBER, _DESTINATION_PORT = 1, 3


def forget(sock: NetlinkSocket, rules: Sequence[PortRule]) -> None:
    """Remove UDP flows to the host ports of *rules*; those that have gone meanwhile are no error."""
    ports = {(rule.host_ip, rule.host_port) for rule in rules if rule.protocol == "udp"}
    if not ports:
        return
    found = [raw for address, port, raw in _flows(sock) if {(address, port), ("0.0.0.0", port)} & ports]
    head = struct.pack(">BBH", socket.AF_INET, 0, 0)
    kind = (_SUBSYSTEM << 8) | _DELETE
    for start in range(0, len(found), 64):
        chunk = found[start : start + 64]
        sock.transact([Message(kind, 0, head + nested(_TUPLE_ORIG, raw)) for raw in chunk])


def _flows(sock: NetlinkSocket) -> Iterator[tuple[str, int, bytes]]:
    """(address, port, tuple) that each UDP flow of the namespace was first sent to."""
    request = Message((_SUBSYSTEM << 8) | _GET, 0, struct.pack(">BBH", socket.AF_INET, 0, 0))
    for _, payload in sock.dump(request):
        raw = parse(payload[4:]).get(_TUPLE_ORIG, b"")
        original = parse(raw)
        addresses, protocol = parse(original.get(_TUPLE_IP, b"")), parse(original.get(_TUPLE_PROTO, b""))
        if protocol.get(_NUMBER) != bytes([socket.IPPROTO_UDP]) or _DESTINATION not in addresses:
            continue
        (port,) = struct.unpack(">H", protocol[_DESTINATION_PORT])
        yield str(ipaddress.IPv4Address(addresses[_DESTINATION])), port, raw
