"""Networks as the API shows them, and its filters."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import UNSET

from services.engine.networks.model import PREDEFINED, EndpointRecord, NetworkRecord, SandboxRecord
from services.engine.networks.registry import Registry
from services.protocol.api.networks import (
    IPAM,
    ConfigReference,
    IPAMConfig,
    IPAMStatus,
    NetworkContainer,
    NetworkInspect,
    NetworkStatus,
    SubnetStatus,
)
from services.protocol.errors import InvalidParameter

_LIST_FILTERS = {"dangling", "driver", "id", "label", "name", "scope", "type"}
_PRUNE_FILTERS = {"label", "label!", "until"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
Users = Callable[[str], list[tuple[SandboxRecord, EndpointRecord]]]


def inspect(record: NetworkRecord, users: Users | None, registry: Registry) -> NetworkInspect:
    """Without *users*, as in a list: nothing about containers.

    The subnets are those that are allocated: a configuration network has none.
    """
    pools = [] if record.config_only else record.pools
    configs = [
        IPAMConfig(
            subnet=pool.subnet,
            ip_range=pool.ip_range or UNSET,
            gateway=pool.gateway or UNSET,
            auxiliary_addresses=pool.auxiliary or UNSET,
        )
        for pool in pools
    ]
    containers: dict[str, NetworkContainer] = {}
    for sandbox, endpoint in users(record.id) if users else []:
        prefix = registry.addresses(record).prefix(endpoint.ipv4) if endpoint.ipv4 else 0
        containers[sandbox.container_id] = NetworkContainer(
            name=sandbox.container_name,
            endpoint_id=endpoint.id,
            mac_address=endpoint.mac_address,
            ipv4_address=f"{endpoint.ipv4}/{prefix}" if endpoint.ipv4 else "",
            ipv6_address="",
        )
    return NetworkInspect(
        name=record.name,
        id=record.id,
        created=record.created,
        scope=record.scope,
        driver=record.driver,
        enable_ipv4=record.enable_ipv4,
        enable_ipv6=record.enable_ipv6,
        ipam=IPAM(driver=record.ipam_driver, options=record.ipam_options, config=configs or None),
        internal=record.internal,
        attachable=record.attachable,
        config_from=ConfigReference(network=record.config_from),
        config_only=record.config_only,
        containers=containers if users else UNSET,
        options=record.options,
        labels=record.labels,
    )


def status(record: NetworkRecord, registry: Registry) -> NetworkStatus:
    """How full the network's subnets are; a configuration network has none of its own."""
    if record.config_only or not record.pools:
        return NetworkStatus(ipam=IPAMStatus())
    counts = {
        str(space.subnet): SubnetStatus(ips_in_use=space.in_use(), dynamic_ips_available=space.available())
        for space in registry.addresses(record).spaces
    }
    return NetworkStatus(ipam=IPAMStatus(subnets=counts))


def check_filters(filters: Mapping[str, Sequence[str]], known: Collection[str]) -> None:
    for name in filters:
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name}'")


def matching(
    networks: Sequence[NetworkRecord],
    filters: Mapping[str, Sequence[str]],
    in_use: Callable[[NetworkRecord], bool],
) -> list[NetworkRecord]:
    """Networks that match every filter, one value of each; labels all of them."""
    check_filters(filters, _LIST_FILTERS)
    for value in filters.get("type", ()):
        if value not in ("builtin", "custom"):
            raise InvalidParameter(f"invalid filter: 'type'='{value}'")
    dangling = [_boolean("dangling", value) for value in filters.get("dangling", ())]

    def matches(record: NetworkRecord) -> bool:
        builtin = record.name in PREDEFINED
        return (
            _any(filters, "driver", lambda value: value == record.driver)
            and _any(filters, "id", lambda value: _found(value, record.id))
            and _any(filters, "name", lambda value: _found(value, record.name))
            and _any(filters, "scope", lambda value: value == record.scope)
            and _any(filters, "type", lambda value: (value == "builtin") == builtin)
            and all(has_label(record.labels, value) for value in filters.get("label", ()))
            and all(value == (not builtin and not in_use(record)) for value in dangling)
        )

    return sorted((one for one in networks if matches(one)), key=lambda one: one.name)


def prunable(
    networks: Sequence[NetworkRecord],
    filters: Mapping[str, Sequence[str]],
    in_use: Callable[[NetworkRecord], bool],
    now: datetime.datetime,
) -> list[NetworkRecord]:
    """Custom networks without running containers, made before ``until``."""
    check_filters(filters, _PRUNE_FILTERS)
    limits = [parse_until(value, now) for value in filters.get("until", ())]
    if len(limits) > 1:
        raise InvalidParameter("more than one until filter specified")

    def matches(record: NetworkRecord) -> bool:
        return (
            record.name not in PREDEFINED
            and not record.config_only
            and not in_use(record)
            and all(record.created < limit for limit in limits)
            and all(has_label(record.labels, value) for value in filters.get("label", ()))
            and not any(has_label(record.labels, value) for value in filters.get("label!", ()))
        )

    return sorted((one for one in networks if matches(one)), key=lambda one: one.name)


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """``key`` or ``key=value``."""
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)


def parse_until(text: str, now: datetime.datetime) -> str:
    """A Go duration before *now*, Unix seconds or RFC 3339, as :func:`registry.timestamp` writes."""
    moment: datetime.datetime | None = None
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        moment = now - datetime.timedelta(seconds=seconds)
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        moment = datetime.datetime.fromtimestamp(float(text), datetime.UTC)
    else:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise InvalidParameter(f'failed to parse value as time or duration: "{text}"') from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        moment = moment.astimezone(datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond * 1000:09d}Z"


def _any(filters: Mapping[str, Sequence[str]], name: str, test: Callable[[str], bool]) -> bool:
    values = filters.get(name)
    return not values or any(test(value) for value in values)


def _found(pattern: str, text: str) -> bool:
    """As moby's filters match: a regular expression, or the text itself."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern == text


def _boolean(name: str, value: str) -> bool:
    if value in ("1", "true"):
        return True
    if value in ("0", "false"):
        return False
    raise InvalidParameter(
        f'invalid value for filter \'{name}\', must be "true" (or "1"), or "false" (or "0")'
    )
