"""``POST /networks/create``: checked, and made a record (moby daemon/network.go, libnetwork)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from services.engine.networks.drivers.base import Driver
from services.engine.networks.ipam import AddressSpace, Network, PoolRecord
from services.engine.networks.model import PREDEFINED, NetworkRecord
from services.engine.networks.registry import Registry, new_id, timestamp
from services.protocol.api.networks import IPAM, IPAMConfig, NetworkCreateRequest
from services.protocol.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
    SystemError_,
    Unimplemented,
)

#: Drivers that dockerd has and this engine has not.
ABSENT_DRIVERS = {"macvlan", "ipvlan", "overlay"}


def check_request(request: NetworkCreateRequest, registry: Registry) -> NetworkRecord | None:
    """Everything but the addresses; the configuration network that it names, if it does."""
    if not request.name.strip():
        raise InvalidParameter("invalid name: name is empty")
    if request.name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {request.name} network")
    if registry.by_name(request.name) is not None:
        raise Conflict(f"network with name {request.name} already exists")
    if request.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if request.ingress:
        raise Forbidden("Ingress network can only be global scope network")
    source = _config_network(request, registry)
    if request.enable_ipv4 is False and not request.enable_ipv6:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    if request.enable_ipv6:
        raise Unimplemented("IPv6 networks are not implemented")
    if request.ipam is not None and request.ipam.driver == "null":
        raise InvalidParameter("ipv4 pool is empty")
    if request.ipam is not None and request.ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{request.ipam.driver}" not found')
    return source


def _config_network(request: NetworkCreateRequest, registry: Registry) -> NetworkRecord | None:
    """The network whose configuration is asked for; a request that has one of its own is refused."""
    source = request.config_from.network if request.config_from else ""
    if request.config_only:
        if request.internal or request.attachable or request.ingress or request.scope:
            raise Forbidden(
                "configuration network can only contain network specific fields. Network operator fields "
                "like [ ingress | internal | attachable | scope ] are not supported."
            )
        if source:
            raise Forbidden("a configuration network cannot depend on another configuration network")
    if not source:
        return None
    ipam = request.ipam
    if request.labels or request.enable_ipv6 or (ipam and (ipam.config or ipam.options)):
        raise Forbidden(
            "user-specified configurations are not supported if the network depends on a "
            "configuration network"
        )
    if request.options:
        raise Forbidden(
            "network driver options are not supported if the network depends on a configuration network"
        )
    record = registry.by_name(source)
    if record is None or not record.config_only:
        raise NotFound(f'configuration network "{source}" does not exist')
    return record


def configured(request: NetworkCreateRequest, source: NetworkRecord) -> NetworkCreateRequest:
    """*request* with the configuration of *source*."""
    configs = [
        IPAMConfig(
            subnet=pool.subnet,
            ip_range=pool.ip_range or UNSET,
            gateway=pool.gateway or UNSET,
            auxiliary_addresses=pool.auxiliary or UNSET,
        )
        for pool in source.pools
    ]
    ipam = IPAM(driver=source.ipam_driver, options=source.ipam_options, config=configs)
    return msgspec.structs.replace(request, ipam=ipam, options=source.options, labels=source.labels)


def make_configuration(request: NetworkCreateRequest, driver: Driver) -> NetworkRecord:
    """A configuration network: nothing of it is checked by a driver, allocated or made."""
    configs = _checked_configs(request)
    pools = [_pool(config) for config in configs if _text(config.subnet)]
    return _record(request, driver, pools=pools, config_only=True)


def choose_driver(name: str, drivers: Mapping[str, Driver]) -> Driver:
    name = name if name not in ("", "default") else "bridge"
    driver = drivers.get(name)
    if driver is None:
        raise NotFound(f'plugin "{name}" not found')
    if not driver.addresses:
        raise Forbidden(f'only one instance of "{name}" network is allowed')
    return driver


def make_record(request: NetworkCreateRequest, driver: Driver) -> NetworkRecord:
    """Without addresses (``pools``)."""
    driver.options(dict(request.options or {}), internal=request.internal)
    return _record(request, driver)


def _record(request: NetworkCreateRequest, driver: Driver, **more: Any) -> NetworkRecord:
    network_id = new_id()
    options = dict(request.options or {})
    return NetworkRecord(
        id=network_id,
        name=request.name,
        driver=driver.name,
        created=timestamp(),
        scope=request.scope or "local",
        internal=request.internal,
        attachable=request.attachable,
        options=options,
        labels=dict(request.labels or {}),
        config_from=request.config_from.network if request.config_from else "",
        ipam_options=request.ipam.options if request.ipam else None,
        interface=driver.interface_name(network_id, options),
        **more,
    )


async def choose_pool(
    request: NetworkCreateRequest, registry: Registry, record: NetworkRecord, *, gateway: bool
) -> PoolRecord:
    """The subnet of *record*, as asked or from the default pools; with its gateway if *gateway*."""
    configs = _checked_configs(request)
    for config in configs:
        _check_overlap(config, registry, record)
    if len(configs) > 1:
        raise Forbidden("bridge driver doesn't support multiple subnets")
    config = configs[0] if configs else IPAMConfig()
    configured = bool(_text(config.subnet))
    subnet = _network(_text(config.subnet)) if configured else await registry.free_subnet(4, request.scope)
    pool = _pool(config)
    pool.subnet, pool.configured = str(subnet), configured
    pool.shows_gateway = bool(pool.gateway) or not configured
    _reserve(subnet, pool, gateway=gateway)
    return pool


def _check_overlap(config: IPAMConfig, registry: Registry, record: NetworkRecord) -> None:
    """With a range of its own a subnet gets past libnetwork's IPAM, and fails at the bridge driver."""
    text, range_ = _text(config.subnet), _text(config.ip_range)
    other = registry.overlapping(_network(text)) if text else None
    if other is None:
        return
    if range_ and not any((pool.subnet, pool.ip_range) == (text, range_) for pool in other.pools):
        raise Forbidden(
            f"cannot create network {record.id} ({record.interface}): conflicts with network "
            f"{other.id} ({other.interface}): networks have overlapping IPv4"
        )
    raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")


def _reserve(subnet: Network, pool: PoolRecord, *, gateway: bool) -> None:
    """The gateway first, then the auxiliary addresses, as libnetwork's ``ipamAllocateVersion`` does."""
    range_ = ipaddress.ip_network(pool.ip_range, strict=False) if pool.ip_range else None
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


def _checked_configs(request: NetworkCreateRequest) -> list[IPAMConfig]:
    configs = list((request.ipam.config if request.ipam else None) or [])
    problems = [problem for config in configs for problem in _problems(config)]
    if problems:
        raise InvalidParameter("invalid network config:\n" + "\n".join(problems))
    return configs


def _pool(config: IPAMConfig) -> PoolRecord:
    return PoolRecord(
        subnet=_text(config.subnet),
        ip_range=_text(config.ip_range),
        gateway=_text(config.gateway).partition("/")[0],
        auxiliary=dict(config.auxiliary_addresses or {}) if config.auxiliary_addresses else {},
    )


def _problems(config: IPAMConfig) -> list[str]:
    """What does not lie in the subnet. Text that is no address at all is refused at once."""
    subnet_text = _text(config.subnet)
    subnet = _network(subnet_text) if subnet_text else None
    shown = subnet_text or "invalid Prefix"
    if subnet is not None and subnet.version == 6:
        raise Unimplemented("IPv6 subnets are not implemented")
    if subnet is not None and str(subnet) != subnet_text:
        return [f"invalid subnet {subnet_text}: it should be {subnet}"]
    found = []
    if (text := _text(config.ip_range)) and not _within(subnet, _network(text)):
        found.append(f"invalid ip-range {text}: parent subnet {shown} doesn't contain ip-range")
    if (text := _text(config.gateway)) and not _has(subnet, text):
        found.append(f"invalid gateway {text}: parent subnet {shown} doesn't contain this address")
    for name, text in dict(config.auxiliary_addresses or {}).items():
        if not _has(subnet, text):
            found.append(
                f"invalid auxiliary address {name}: parent subnet {shown} doesn't contain this address"
            )
    return found


def _within(subnet: Network | None, other: Network) -> bool:
    if subnet is None or subnet.version != other.version:
        return False
    return other.network_address in subnet and other.broadcast_address in subnet


def _has(subnet: Network | None, text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        raise InvalidParameter(f'invalid JSON: ParseAddr("{text}"): unable to parse IP') from None
    return subnet is not None and address in subnet


def _network(text: str) -> Network:
    try:
        if "/" not in text:
            raise ValueError("no '/'")
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        reason = "no '/'" if "/" not in text else "unable to parse"
        raise InvalidParameter(f'invalid JSON: netip.ParsePrefix("{text}"): {reason}') from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
