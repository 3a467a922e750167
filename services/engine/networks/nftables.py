"""nf_tables messages, hand-packed (linux/netfilter/nf_tables.h): tables, chains, sets, rules.

Functions return :class:`Message`; :func:`commit` sends them as one transaction, which the kernel
applies whole or not at all. Expressions follow what ``nft --debug=netlink`` prints.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from services.engine.networks.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    NetlinkSocket,
    attribute,
    be32,
    nested,
    text,
)

NETLINK_NETFILTER = 12
FAMILY_IP, FAMILY_IP6 = 2, 10
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 16, 17

(_NEWTABLE, _DELTABLE, _NEWCHAIN, _DELCHAIN, _NEWRULE, _DELRULE) = (0, 2, 3, 5, 6, 8)
(_NEWSET, _NEWSETELEM, _DELSETELEM) = (9, 12, 14)

PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING = range(5)
DROP, ACCEPT, JUMP = 0, 1, -3

#: Key types as ``nft`` numbers them; a concatenation shifts by six bits.
IPV4_ADDR, IPV6_ADDR, INET_PROTO, INET_SERVICE, IFNAME, VERDICT = 7, 8, 12, 13, 41, 0xFFFFFF00
SET_INTERVAL, SET_MAP, _SET_CONCAT = 0x4, 0x8, 0x80
_LENGTHS = {IPV4_ADDR: 4, IPV6_ADDR: 16, INET_PROTO: 1, INET_SERVICE: 2, IFNAME: 16}
_ELEMENT_INTERVAL_END = 1
#: User data for the eyes of ``nft``, which else prints interface names back to front.
_HOST_ENDIAN = struct.pack("=BBI", 0, 4, 1)

#: Registers: 16 byte ones are 1 to 4, the same space in 4 byte ones is 8 to 23.
REG_VERDICT, REG_1, REG_2, REG32_1, REG32_2 = 0, 1, 2, 9, 10
META_IIFNAME, META_OIFNAME, META_L4PROTO = 6, 7, 16
CT_STATE, CT_STATUS = 0, 2
STATE_ESTABLISHED_RELATED, STATE_NEW, STATUS_DNAT = 0x06, 0x08, 0x20
_ADDRTYPE_LOCAL = 2


def _message(command: int, family: int, payload: bytes, flags: int = 0) -> Message:
    return Message((_SUBSYSTEM << 8) | command, flags, struct.pack(">BBH", family, 0, 0) + payload)


def commit(socket: NetlinkSocket, messages: Sequence[Message]) -> None:
    """Apply *messages* as one transaction; raises :class:`NetlinkError`."""
    frame = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    socket.batch([Message(_BATCH_BEGIN, 0, frame), *messages, Message(_BATCH_END, 0, frame)])


class Table:
    """Messages about one table of one family."""

    def __init__(self, name: str, family: int) -> None:
        self.name = name
        self.family = family

    def _make(self, command: int, payload: bytes, flags: int = 0) -> Message:
        return _message(command, self.family, payload, flags)

    def create(self, *, exclusive: bool = False) -> Message:
        """No error if it is there, unless *exclusive* (EEXIST)."""
        flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
        return self._make(_NEWTABLE, text(1, self.name), flags)

    def delete(self) -> Message:
        return self._make(_DELTABLE, text(1, self.name))

    def chain(self, name: str) -> Message:
        return self._make(_NEWCHAIN, text(1, self.name) + text(3, name), NLM_F_CREATE)

    def base_chain(self, name: str, kind: str, hook: int, priority: int) -> Message:
        """A chain the kernel calls; its policy is accept."""
        place = nested(4, be32(1, hook), be32(2, priority))
        payload = text(1, self.name) + text(3, name) + place + be32(5, ACCEPT) + text(7, kind)
        return self._make(_NEWCHAIN, payload, NLM_F_CREATE)

    def delete_chain(self, name: str) -> list[Message]:
        """The chain and its rules; nothing may jump to it any more."""
        where = text(1, self.name)
        return [
            self._make(_DELRULE, where + text(2, name)),
            self._make(_DELCHAIN, where + text(3, name)),
        ]

    def rule(self, chain: str, *expressions: bytes) -> Message:
        listed = nested(4, *(nested(1, expression) for expression in expressions))
        payload = text(1, self.name) + text(2, chain) + listed
        return self._make(_NEWRULE, payload, NLM_F_CREATE | NLM_F_APPEND)

    def set(
        self, name: str, key: Sequence[int], *, data: Sequence[int] = (), flags: int = 0, number: int = 1
    ) -> Message:
        """A set, or with *data* a map. *number* identifies it within the transaction."""
        flags |= SET_MAP if data else 0
        payload = text(1, self.name) + text(2, name) + be32(3, flags)
        payload += be32(4, _type(key)) + be32(5, _length(key))
        if tuple(data) == (VERDICT,):
            payload += be32(6, VERDICT) + be32(7, 0)
        elif data:
            payload += be32(6, _type(data)) + be32(7, _length(data))
        if tuple(key) == (IFNAME,):
            payload += attribute(13, _HOST_ENDIAN)
        return self._make(_NEWSET, payload + be32(10, number), NLM_F_CREATE)

    def add(self, name: str, *elements: bytes) -> Message:
        return self._make(_NEWSETELEM, self._elements(name, elements), NLM_F_CREATE)

    def remove(self, name: str, *elements: bytes) -> Message:
        return self._make(_DELSETELEM, self._elements(name, elements))

    def _elements(self, name: str, elements: Sequence[bytes]) -> bytes:
        listed = nested(3, *(nested(1, element) for element in elements))
        return text(1, self.name) + text(2, name) + listed


def _type(kinds: Sequence[int]) -> int:
    number = 0
    for kind in kinds:
        number = number << 6 | kind
    return number


def _length(kinds: Sequence[int]) -> int:
    if len(kinds) == 1:
        return _LENGTHS[kinds[0]]
    return sum(_LENGTHS[kind] + (-_LENGTHS[kind] % 4) for kind in kinds)


# Elements ---------------------------------------------------------------------------------------


def key(*parts: bytes) -> bytes:
    """A key's bytes; the parts of a concatenation are each filled up to four bytes."""
    if len(parts) == 1:
        return parts[0]
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def ifname(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


def port(number: int) -> bytes:
    return struct.pack(">H", number)


def element(key_: bytes, data: bytes | None = None) -> bytes:
    value = nested(1, attribute(1, key_))
    return value + nested(2, attribute(1, data)) if data is not None else value


def verdict_element(key_: bytes, chain: str) -> bytes:
    return nested(1, attribute(1, key_)) + nested(2, _verdict(JUMP, chain))


def interval_end(key_: bytes) -> bytes:
    """The first key behind an interval."""
    return nested(1, attribute(1, key_)) + be32(3, _ELEMENT_INTERVAL_END)


# Expressions ------------------------------------------------------------------------------------


def _expression(name: str, *attributes: bytes) -> bytes:
    return text(1, name) + nested(2, *attributes)


def _verdict(code: int, chain: str = "") -> bytes:
    return nested(2, be32(1, code), text(2, chain) if chain else b"")


def verdict(code: int, chain: str = "") -> bytes:
    return _expression("immediate", be32(1, REG_VERDICT), nested(2, _verdict(code, chain)))


def immediate(register: int, value: bytes) -> bytes:
    return _expression("immediate", be32(1, register), nested(2, attribute(1, value)))


def meta(name: int, register: int = REG_1) -> bytes:
    return _expression("meta", be32(1, register), be32(2, name))


def network_header(offset: int, length: int, register: int = REG_1) -> bytes:
    return _expression("payload", be32(1, register), be32(2, 1), be32(3, offset), be32(4, length))


def transport_header(offset: int, length: int, register: int = REG_1) -> bytes:
    return _expression("payload", be32(1, register), be32(2, 2), be32(3, offset), be32(4, length))


def equals(value: bytes, register: int = REG_1) -> bytes:
    return _expression("cmp", be32(1, register), be32(2, 0), nested(3, attribute(1, value)))


def differs(value: bytes, register: int = REG_1) -> bytes:
    return _expression("cmp", be32(1, register), be32(2, 1), nested(3, attribute(1, value)))


def lookup(name: str, destination: int | None = None, register: int = REG_1) -> bytes:
    """True if the register's value is in the set; a map's value goes to *destination*."""
    into = be32(3, destination) if destination is not None else b""
    return _expression("lookup", text(1, name), be32(2, register), into)


def ct_has(name: int, bits: int) -> tuple[bytes, ...]:
    """The connection's state or status has one of *bits* (in host byte order)."""
    mask, zero = struct.pack("=I", bits), bytes(4)
    and_ = _expression(
        "bitwise",
        be32(1, REG_1),
        be32(2, REG_1),
        be32(3, 4),
        nested(4, attribute(1, mask)),
        nested(5, attribute(1, zero)),
    )
    return (_expression("ct", be32(1, REG_1), be32(2, name)), and_, differs(zero))


def to_local() -> tuple[bytes, ...]:
    """The destination is an address of this host (fib daddr type local)."""
    fib = _expression("fib", be32(1, REG_1), be32(2, 3), be32(3, 2))
    return (fib, equals(struct.pack("=I", _ADDRTYPE_LOCAL)))


def dnat(family: int, address: int = REG_1, port_: int = REG32_1) -> bytes:
    return _expression("nat", be32(1, 1), be32(2, family), be32(3, address), be32(5, port_))


def masquerade() -> bytes:
    return _expression("masq")
