"""``POST /networks/create``: checked, and made a record (moby daemon/network.go, libnetwork).

The subnet is the business of :mod:`services.engine.networks.subnets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from services.engine.networks.drivers.base import Driver
from services.engine.networks.drivers.bridge import ENABLE_IPV4, ENABLE_IPV6, FALSE, TRUE
from services.engine.networks.model import PREDEFINED, NetworkRecord
from services.engine.networks.registry import Registry, new_id, timestamp
from services.engine.networks.subnets import configured_pools
from services.protocol.api.networks import IPAM, IPAMConfig, NetworkCreateRequest
from services.protocol.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
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
    ipv4 = _is_enabled(request.enable_ipv4, request, ENABLE_IPV4, default=True)
    ipv6 = _is_enabled(request.enable_ipv6, request, ENABLE_IPV6, default=False)
    if not ipv4 and not ipv6:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    if ipv6:
        raise Unimplemented("IPv6 networks are not implemented")
    if request.ipam is not None and request.ipam.driver == "null":
        raise InvalidParameter("ipv4 pool is empty")
    if request.ipam is not None and request.ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{request.ipam.driver}" not found')
    return source


def _is_enabled(given: bool | None, request: NetworkCreateRequest, option: str, *, default: bool) -> bool:
    """The request's own field goes before the driver option."""
    if given is not None:
        return given
    value = (request.options or {}).get(option)
    if value is None:
        return default
    if value not in TRUE | FALSE:
        raise InvalidParameter(f'driver-opt "{option}" is not a valid bool')
    return value in TRUE


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
    return _record(request, driver, pools=configured_pools(request), config_only=True)


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
    for given, option in ((request.enable_ipv4, ENABLE_IPV4), (request.enable_ipv6, ENABLE_IPV6)):
        if given is not None:
            options.pop(option, None)
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
