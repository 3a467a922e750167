"""Addresses: pools for new networks, and the addresses of one network.

Pure bookkeeping in memory; the caller records what it was given before it uses it. As libnetwork's
ipams/default: the lowest free address is given, a subnet is the first of the default pools that
overlaps neither another network nor a route of the host.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from services.protocol.errors import Forbidden, InvalidParameter, SystemError_
from services.protocol.settings import AddressPool

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


#: libnetwork/ipamutils: the local scope's default pools.
DEFAULT_POOLS = (
    *(AddressPool(f"172.{number}.0.0/16", 16) for number in range(17, 29)),
    AddressPool("172.28.0.0/14", 16),
    AddressPool("192.168.0.0/16", 20),
)


#: libnetwork/ipamutils: the global scope's.
GLOBAL_POOLS = (AddressPool("10.0.0.0/8", 24),)


class PoolRecord(msgspec.Struct, kw_only=True):
    """A subnet of a network. ``configured``: the user asked for it."""

    subnet: str
    ip_range: str = ""
    gateway: str = ""
    auxiliary: dict[str, str] = {}
    configured: bool = True


@dataclass
class AddressSpace:
    """The addresses of one subnet. Network and broadcast address are never given out."""

    subnet: Network
    ip_range: Network | None = None
    _taken: set[int] = field(default_factory=set)
    #: No address below it is free: the search starts here.
    _lowest: int = 0

    def __post_init__(self) -> None:
        self._lowest = self._first()

    def _bounds(self) -> tuple[int, int]:
        whole = (int(self.subnet.network_address), int(self.subnet.broadcast_address))
        edge = 0 if self.subnet.prefixlen >= self.subnet.max_prefixlen - 1 else 1
        first = whole[0] + edge
        last = whole[1] - (edge if self.subnet.version == 4 else 0)
        return first, last

    def _first(self) -> int:
        first, _ = self._bounds()
        return max(first, int(self.ip_range.network_address)) if self.ip_range else first

    def _last(self) -> int:
        _, last = self._bounds()
        return min(last, int(self.ip_range.broadcast_address)) if self.ip_range else last

    def take(self, address: Address) -> bool:
        """Reserve *address*; False if it is taken or never given out."""
        number = int(address)
        first, last = self._bounds()
        if not first <= number <= last or number in self._taken:
            return False
        self._taken.add(number)
        return True

    def next(self) -> Address | None:
        """The lowest free address, reserved; None if there is none."""
        last = self._last()
        number = self._lowest
        while number in self._taken:
            number += 1
        self._lowest = number
        if number > last:
            return None
        self._taken.add(number)
        return type(self.subnet.network_address)(number)

    def in_use(self) -> int:
        """With those that are never given out."""
        first, last = self._bounds()
        return len(self._taken) + self.subnet.num_addresses - (last - first + 1)

    def available(self) -> int:
        """Addresses that :meth:`next` can give."""
        first, last = self._first(), self._last()
        return last - first + 1 - sum(first <= number <= last for number in self._taken)

    def release(self, address: Address) -> None:
        number = int(address)
        self._taken.discard(number)
        if self._first() <= number < self._lowest:
            self._lowest = number


class NetworkAddresses:
    """The subnets of one network, of both families."""

    def __init__(self, name: str, pools: Sequence[PoolRecord]) -> None:
        self._name = name
        self._pools = pools
        self.spaces: list[AddressSpace] = []
        for pool in pools:
            range_ = ipaddress.ip_network(pool.ip_range, strict=False) if pool.ip_range else None
            space = AddressSpace(ipaddress.ip_network(pool.subnet, strict=False), range_)
            for reserved in [pool.gateway, *pool.auxiliary.values()]:
                if reserved:
                    space.take(ipaddress.ip_address(reserved))
            self.spaces.append(space)

    def space_of(self, address: Address) -> AddressSpace | None:
        return next((space for space in self.spaces if address in space.subnet), None)

    def prefix(self, address: str) -> int:
        """Prefix length of the subnet that has *address*."""
        space = self.space_of(ipaddress.ip_address(address))
        return space.subnet.prefixlen if space else 0

    def gateway(self, address: str) -> str:
        """The gateway of the subnet that has *address*."""
        wanted = ipaddress.ip_address(address)
        for pool, space in zip(self._pools, self.spaces, strict=True):
            if wanted in space.subnet:
                return pool.gateway
        return ""

    def allocate(self, version: int, wanted: str = "") -> str:
        """Raises ``Forbidden`` (taken), ``SystemError_`` (none left) and ``InvalidParameter``."""
        if wanted:
            address = ipaddress.ip_address(wanted)
            space = self.space_of(address)
            if space is None:
                raise InvalidParameter(f"no configured subnet contains IP address {wanted}")
            if not space.take(address):
                raise Forbidden("Address already in use")
            return str(address)
        for space in self.spaces:
            if space.subnet.version == version and (found := space.next()) is not None:
                return str(found)
        raise SystemError_(
            f"no available IPv{version} addresses on this network's address pools: {self._name}"
        )

    def restore(self, address: str) -> bool:
        """Take an address that the database says is in use; False if it cannot be."""
        parsed = ipaddress.ip_address(address)
        space = self.space_of(parsed)
        return space is not None and space.take(parsed)

    def release(self, address: str) -> None:
        parsed = ipaddress.ip_address(address)
        if (space := self.space_of(parsed)) is not None:
            space.release(parsed)


def choose_subnet(
    pools: Iterable[AddressPool], version: int, used: Sequence[Network], prefix: int = 0
) -> Network:
    """The first subnet of *pools* that overlaps none of *used*; with a *prefix* of this length instead of
    the pool's own."""
    fitting = False
    for pool in pools:
        base = ipaddress.ip_network(pool.base, strict=False)
        size = prefix or pool.size
        if base.version != version or size < base.prefixlen:
            continue
        fitting = True
        found = _free_subnet(base, size, [one for one in used if one.version == version])
        if found is not None:
            return found
    if prefix and not fitting:
        raise InvalidParameter("invalid pool request: invalid address pool")
    raise InvalidParameter("all predefined address pools have been fully subnetted")


def _free_subnet(base: Network, size: int, used: Sequence[Network]) -> Network | None:
    """Steps over what is used instead of trying every subnet of a large pool."""
    step = 1 << (base.max_prefixlen - size)
    start, end = int(base.network_address), int(base.broadcast_address)
    taken = sorted((int(one.network_address), int(one.broadcast_address)) for one in used)
    kind = type(base)
    while start + step - 1 <= end:
        clash = [high for low, high in taken if low <= start + step - 1 and high >= start]
        if not clash:
            return kind((start, size))
        start += ((max(clash) - start) // step + 1) * step
    return None


def overlaps(subnet: Network, others: Iterable[Network]) -> bool:
    return any(one.version == subnet.version and one.overlaps(subnet) for one in others)


def unique_local(seed: str) -> AddressPool:
    """A /48 of RFC 4193 that is always the same for *seed*, cut into /64s."""
    digest = hashlib.sha256(seed.encode()).digest()[:5]
    prefix = ipaddress.IPv6Address(b"\xfd" + digest + bytes(10))
    return AddressPool(f"{prefix}/48", 64)


def mac_address(ipv4: str) -> str:
    """Locally administered, unicast, made from the address.

    An address that comes back with another container has the same hardware address, so that no
    neighbour's cache is wrong.
    """
    return "02:42:" + ipaddress.IPv4Address(ipv4).packed.hex(":")
