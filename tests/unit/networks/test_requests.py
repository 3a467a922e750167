"""Filters of lists and prunes, and what endpoint settings are refused for."""

from __future__ import annotations

import datetime

import pytest

from services.engine.networks import checks, listing
from services.engine.networks.drivers.bridge import BridgeDriver
from services.engine.networks.ipam import PoolRecord
from services.engine.networks.model import NetworkRecord
from services.protocol.api.networks import EndpointIPAMConfig, EndpointSettings
from services.protocol.errors import InvalidParameter, Unimplemented

NOW = datetime.datetime(2026, 1, 2, 12, 0, tzinfo=datetime.UTC)


def record(name: str, **more: object) -> NetworkRecord:
    fields: dict[str, object] = {"driver": "bridge", "created": "2026-01-02T11:55:00.000000000Z"}
    return NetworkRecord(id=name * 8, name=name, **(fields | more))


NETWORKS = [
    record("foo", labels={"a": "1", "b": "2"}),
    record("foobar", labels={"a": "2"}),
    record("none", driver="null"),
]


def names(filters: dict[str, list[str]], used: tuple[str, ...] = ()) -> list[str]:
    found = listing.matching(NETWORKS, filters, lambda one: one.name in used)
    return [one.name for one in found]


def test_list_filters() -> None:
    assert names({}) == ["foo", "foobar", "none"]
    assert names({"name": ["oob"]}) == ["foobar"]
    assert names({"name": ["^foo$"]}) == ["foo"]
    assert names({"label": ["a"]}) == ["foo", "foobar"]
    assert names({"label": ["a=1", "b"]}) == ["foo"]
    assert names({"type": ["builtin"]}) == ["none"]
    assert names({"driver": ["none"]}) == []
    assert names({"scope": ["swarm"]}) == []
    assert names({"dangling": ["true"]}, ("foo",)) == ["foobar"]
    assert names({"dangling": ["0"]}, ("foo",)) == ["foo", "none"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"bogus": ["x"]}, "invalid filter 'bogus'"),
        ({"type": ["nope"]}, "invalid filter: 'type'='nope'"),
        (
            {"dangling": ["maybe"]},
            'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")',
        ),
    ],
)
def test_bad_list_filters(filters: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        names(filters)
    assert str(raised.value) == message


def pruned(filters: dict[str, list[str]], used: tuple[str, ...] = ()) -> list[str]:
    return [one.name for one in listing.prunable(NETWORKS, filters, lambda one: one.name in used, NOW)]


def test_prune_takes_custom_networks_that_nobody_uses() -> None:
    assert pruned({}, ("foo",)) == ["foobar"]
    assert pruned({"label!": ["a=1"]}) == ["foobar"]
    assert pruned({"until": ["10m"]}) == []
    assert pruned({"until": ["1m"]}) == ["foo", "foobar"]
    assert pruned({"until": ["2026-01-02T11:00:00Z"]}) == []
    with pytest.raises(InvalidParameter, match="never"):
        pruned({"until": ["never"]})
    with pytest.raises(InvalidParameter, match="invalid filter 'name'"):
        pruned({"name": ["foo"]})


def problems(name: str, **settings: object) -> list[str]:
    network = record(name, pools=[PoolRecord(subnet="10.0.0.0/24", gateway="10.0.0.1")])
    return checks.problems(name, network, EndpointSettings(**settings))


def test_static_addresses_need_a_configured_subnet() -> None:
    inside = EndpointIPAMConfig(ipv4_address="10.0.0.5")
    outside = EndpointIPAMConfig(ipv4_address="10.1.0.5")
    assert problems("mine", ipam_config=inside) == []
    assert problems("mine", ipam_config=outside) == ["no configured subnet contains IP address 10.1.0.5"]
    assert checks.describe(problems("bridge", ipam_config=outside)) == (
        "invalid endpoint settings:\n"
        "* user-specified IP address is supported on user-defined networks only\n"
        "* no configured subnet contains IP address 10.1.0.5"
    )
    assert problems("bridge", aliases=["x"]) == [
        "network-scoped aliases are only supported for user-defined networks"
    ]


@pytest.mark.parametrize(
    "settings",
    [
        EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="bad")),
        EndpointSettings(mac_address="zz"),
    ],
)
def test_text_that_is_no_address(settings: EndpointSettings) -> None:
    with pytest.raises(InvalidParameter, match="invalid JSON: "):
        checks.check_format(settings)


def test_bridge_options() -> None:
    driver = BridgeDriver(None, ip_forward=False)  # type: ignore[arg-type]
    driver.options({"com.docker.network.bridge.enable_icc": "false", "mine": "kept"})
    with pytest.raises(InvalidParameter, match="strconv.ParseBool"):
        driver.options({"com.docker.network.bridge.enable_icc": "perhaps"})
    with pytest.raises(Unimplemented, match="com.docker.network.bridge.inhibit_ipv4"):
        driver.options({"com.docker.network.bridge.inhibit_ipv4": "true"})
