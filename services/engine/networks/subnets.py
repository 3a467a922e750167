"""The subnet of a new network: what the request says of it, checked, or one of the default pools.

Texts and order are moby's (``validateIpamConfig`` in daemon/network.go, libnetwork's
``ipamAllocateVersion``).
"""

from __future__ import annotations

import ipaddress
from typing import Any

from services.engine.networks.ipam import AddressSpace, Network, PoolRecord
from services.engine.networks.model import NetworkRecord
from services.engine.networks.registry import Registry
from services.protocol.api.networks import IPAMConfig, NetworkCreateRequest
from services.protocol.errors import Forbidden, InvalidParameter, SystemError_

Prefix = ipaddress.IPv4Interface | ipaddress.IPv6Interface
#: How Go shows the prefix of a configuration without a subnet.
_NONE = "invalid Prefix"


def configured_pools(request: NetworkCreateRequest) -> list[PoolRecord]:
    """The IPv4 subnets of the request. Raises ``InvalidParameter`` for what does not lie in its subnet.

    Those of IPv6 mean nothing to a network without IPv6, nor does a configuration without a subnet.
    """
    configs = (request.ipam.config if request.ipam else None) or []
    problems = [problem for config in configs for problem in _problems(config)]
    if problems:
        listed = problems[0] if len(problems) == 1 else "\n".join(f"* {one}" for one in problems)
        raise InvalidParameter(f"invalid network config:\n{listed}")
    return [_pool(config) for config in configs if (text := _text(config.subnet)) and ":" not in text]


async def choose_pool(
    request: NetworkCreateRequest, registry: Registry, record: NetworkRecord, *, gateway: bool
) -> PoolRecord:
    """The subnet of *record*, as asked or from the default pools; with its gateway if *gateway*.

    An unspecified address (``0.0.0.0/24``) asks for the size only.
    """
    pools = configured_pools(request)
    for pool in pools:
        _check_overlap(pool, registry, record)
    if len(pools) > 1:
        raise Forbidden("bridge driver doesn't support multiple subnets")
    chosen = pools[0] if pools else PoolRecord(subnet="0.0.0.0/0")
    subnet = _prefix(chosen.subnet).network
    if subnet.network_address.is_unspecified:
        subnet = await registry.free_subnet(4, request.scope, subnet.prefixlen)
        chosen.subnet, chosen.configured = str(subnet), False
    _reserve(subnet, chosen, gateway=gateway)
    return chosen


def _check_overlap(pool: PoolRecord, registry: Registry, record: NetworkRecord) -> None:
    """With a range of its own a subnet gets past libnetwork's IPAM, and fails at the bridge driver."""
    subnet = _prefix(pool.subnet).network
    other = None if subnet.network_address.is_unspecified else registry.overlapping(subnet)
    if other is None:
        return
    same = [(one.subnet, one.ip_range) for one in other.pools]
    if pool.ip_range and (pool.subnet, pool.ip_range) not in same:
        raise Forbidden(
            f"cannot create network {record.id} ({record.interface}): conflicts with network "
            f"{other.id} ({other.interface}): networks have overlapping IPv4"
        )
    raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")


def _reserve(subnet: Network, pool: PoolRecord, *, gateway: bool) -> None:
    """The gateway first, then the auxiliary addresses."""
    range_ = ipaddress.ip_network(pool.ip_range) if pool.ip_range else None
    space = AddressSpace(subnet, range_)
    if pool.gateway:
        if not space.take(ipaddress.ip_address(pool.gateway)):
            raise SystemError_(f"failed to allocate gateway ({pool.gateway}): Address already in use")
    elif gateway:
        if (chosen := space.next()) is None:
            raise SystemError_("failed to allocate gateway (): no available addresses on this pool")
        pool.gateway = str(chosen)
    for name, address in pool.auxiliary.items():
        if not space.take(ipaddress.ip_address(address)):
            raise SystemError_(
                f"failed to allocate secondary ip address ({name}:{address}): Address already in use"
            )


def _pool(config: IPAMConfig) -> PoolRecord:
    return PoolRecord(
        subnet=_text(config.subnet),
        ip_range=_text(config.ip_range),
        gateway=_text(config.gateway),
        auxiliary=dict(config.auxiliary_addresses or {}) if config.auxiliary_addresses else {},
    )


def _problems(config: IPAMConfig) -> list[str]:
    """Text that is no address at all is refused at once, as moby fails at it when it reads the request."""
    subnet = _prefix(text) if (text := _text(config.subnet)) else None
    if subnet is not None and subnet.version == 6:
        return []
    found = []
    if subnet is not None and not _is_masked(subnet):
        found.append(f"invalid subnet {subnet}: it should be {subnet.network}")
    if text := _text(config.ip_range):
        found += [f"invalid ip-range {text}: {problem}" for problem in _range_problems(subnet, _prefix(text))]
    if (text := _text(config.gateway)) and (problem := _address_problem(subnet, text)):
        found.append(f"invalid gateway {text}: {problem}")
    for name, text in dict(config.auxiliary_addresses or {}).items():
        if problem := _address_problem(subnet, text):
            found.append(f"invalid auxiliary address {name}: {problem}")
    return found


def _range_problems(subnet: Prefix | None, range_: Prefix) -> list[str]:
    if range_.version == 6:
        return ["parent subnet is an IPv4 block"]
    found = []
    if subnet is not None and range_.network.prefixlen < subnet.network.prefixlen:
        found.append(f"CIDR block is bigger than its parent subnet {subnet}")
    if not _is_masked(range_):
        found.append(f"it should be {range_.network}")
    if subnet is None or not subnet.network.overlaps(range_.network):
        found.append(f"parent subnet {subnet or _NONE} doesn't contain ip-range")
    return found


def _address_problem(subnet: Prefix | None, text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidParameter(f'invalid JSON: ParseAddr("{text}"): unable to parse IP') from None
    if address.version == 6:
        return "parent subnet is an IPv4 block"
    if subnet is not None and address in subnet.network:
        return ""
    return f"parent subnet {subnet or _NONE} doesn't contain this address"


def _is_masked(prefix: Prefix) -> bool:
    return prefix.ip == prefix.network.network_address


def _prefix(text: str) -> Prefix:
    try:
        if "/" not in text:
            raise ValueError("no '/'")
        return ipaddress.ip_interface(text)
    except ValueError:
        reason = "no '/'" if "/" not in text else "unable to parse"
        raise InvalidParameter(f'invalid JSON: netip.ParsePrefix("{text}"): {reason}') from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
