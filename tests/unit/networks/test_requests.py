"""Filters of lists and prunes, and what endpoint settings are refused for."""

from __future__ import annotations

import asyncio
import datetime
import errno
import ipaddress
from typing import Any

import pytest

from services.engine.networks import checks, endpoint_options, listing, requests, subnets
from services.engine.networks.drivers import absent
from services.engine.networks.drivers.bridge import BridgeDriver
from services.engine.networks.drivers.null import NullDriver
from services.engine.networks.ipam import Network, PoolRecord
from services.engine.networks.links import Link
from services.engine.networks.model import NetworkRecord
from services.engine.networks.netlink import NetlinkError
from services.protocol.api.networks import (
    IPAM,
    ConfigReference,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
)
from services.protocol.errors import InvalidParameter, SystemError_, Unimplemented, WharfError

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
    assert problems(
        "mine", ipam_config=EndpointIPAMConfig(ipv4_address="0.0.0.0", ipv6_address="1.2.3.4")
    ) == [
        "invalid IPv4 address: 0.0.0.0",
        "invalid IPv6 address: 1.2.3.4",
        "no configured subnet contains IP address 0.0.0.0",
        "no configured subnet contains IP address 1.2.3.4",
    ]
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
    with pytest.raises(Unimplemented, match="com.docker.network.bridge.trusted_host_interfaces"):
        driver.options({"com.docker.network.bridge.trusted_host_interfaces": "eth0"})


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        (
            "driver.mtu",
            "x",
            'failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing "x"',
        ),
        ("driver.mtu", "-1", "invalid MTU number: -1"),
        ("bridge.host_binding_ipv4", "x", "value: x (nil ip)"),
        ("bridge.gateway_mode_ipv4", "x", "value: x (unknown gateway mode x)"),
    ],
)
def test_bad_bridge_options(option: str, value: str, text: str) -> None:
    driver = BridgeDriver(None, ip_forward=False)  # type: ignore[arg-type]
    with pytest.raises(InvalidParameter) as caught:
        driver.options({f"com.docker.network.{option}": value})
    assert text in str(caught.value)


class NoLinks:
    """A kernel with one interface, which has no dummy links."""

    def links(self) -> list[Link]:
        return [Link(1, "lo", "", 0, "", True), Link(2, "eth0", "", 0, "", True)]

    def create_dummy(self, name: str) -> None:
        raise NetlinkError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("macvlan", {}, "operation not supported"),
        ("macvlan", {"macvlan_mode": "x"}, "requested macvlan mode 'x' is not valid, 'bridge' mode"),
        ("ipvlan", {"ipvlan_mode": "x"}, "requested ipvlan mode 'x' is not valid, 'l2' mode"),
        ("macvlan", {"parent": "lo"}, "loopback interface is not a valid macvlan parent link"),
        ("macvlan", {"parent": "wan"}, "invalid subinterface vlan name wan, example formatting is eth0.10"),
        ("ipvlan", {"parent": "wan.7"}, "-o parent interface was not found on the host: wan"),
        ("ipvlan", {"parent": "eth0.9999"}, "vlan id must be between 1-4094, received: 9999"),
        ("ipvlan", {"parent": "eth0"}, "network driver ipvlan is not implemented"),
        ("overlay", {}, "This node is not a swarm manager. "),
    ],
)
def test_drivers_that_are_not_there(driver: str, options: dict[str, str], text: str) -> None:
    error = absent.refusal(driver, "0123456789abcdef", options, NoLinks())  # type: ignore[arg-type]
    assert text in str(error)


class FakeRegistry:
    """One network, of 10.1.0.0/24 with a range of its own."""

    other = record(
        "other", interface="br-other", pools=[PoolRecord(subnet="10.1.0.0/24", ip_range="10.1.0.0/25")]
    )

    def overlapping(self, subnet: Network) -> NetworkRecord | None:
        return self.other if subnet.overlaps(ipaddress.ip_network("10.1.0.0/24")) else None

    async def free_subnet(self, version: int, scope: str, prefix: int) -> Network:
        return ipaddress.ip_network("10.9.0.0/24" if scope == "global" else f"172.30.0.0/{prefix or 16}")


def pool(config: IPAMConfig | None, *, gateway: bool = True, scope: str = "") -> PoolRecord:
    request = NetworkCreateRequest(name="n", scope=scope, ipam=IPAM(config=[config] if config else []))
    new = record("n", interface="br-n")
    registry: Any = FakeRegistry()
    return asyncio.run(subnets.choose_pool(request, registry, new, gateway=gateway))


def test_chosen_gateways() -> None:
    assert pool(IPAMConfig(subnet="10.2.0.0/24")).gateway == "10.2.0.1"
    assert pool(IPAMConfig(subnet="10.2.0.0/24", gateway="10.2.0.9")).gateway == "10.2.0.9"
    free = pool(None)
    assert (free.subnet, free.gateway, free.configured) == ("172.30.0.0/16", "172.30.0.1", False)
    assert pool(None, scope="global").subnet == "10.9.0.0/24"
    assert pool(IPAMConfig(subnet="0.0.0.0/26")).subnet == "172.30.0.0/26"
    assert pool(IPAMConfig(subnet="fd00::/64")).subnet == "172.30.0.0/16", "there is no IPv6 to use it"
    ranged = pool(IPAMConfig(subnet="10.2.0.0/24", ip_range="10.2.0.128/25"))
    assert ranged.gateway == "10.2.0.128"
    assert pool(IPAMConfig(subnet="10.2.0.0/24"), gateway=False).gateway == ""


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            IPAMConfig(subnet="10.2.0.0/24", auxiliary_addresses={"x": "10.2.0.1"}),
            "failed to allocate secondary ip address (x:10.2.0.1): Address already in use",
        ),
        (
            IPAMConfig(subnet="10.2.0.0/24", gateway="10.2.0.255"),
            "failed to allocate gateway (10.2.0.255): Address already in use",
        ),
        (IPAMConfig(subnet="10.1.0.1/16"), "it should be 10.1.0.0/16"),
        (
            IPAMConfig(
                subnet="10.2.0.0/24",
                ip_range="192.168.0.1/16",
                gateway="192.168.0.1",
                auxiliary_addresses={"x": "fd00::1"},
            ),
            "invalid network config:\n"
            "* invalid ip-range 192.168.0.1/16: CIDR block is bigger than its parent subnet 10.2.0.0/24\n"
            "* invalid ip-range 192.168.0.1/16: it should be 192.168.0.0/16\n"
            "* invalid ip-range 192.168.0.1/16: parent subnet 10.2.0.0/24 doesn't contain ip-range\n"
            "* invalid gateway 192.168.0.1: parent subnet 10.2.0.0/24 doesn't contain this address\n"
            "* invalid auxiliary address x: parent subnet is an IPv4 block",
        ),
        (IPAMConfig(subnet="10.1.0.128/25"), "Pool overlaps with other one on this address space"),
        (IPAMConfig(subnet="10.1.0.0/24", ip_range="10.1.0.0/25"), "Pool overlaps with other one"),
        (
            IPAMConfig(subnet="10.1.0.0/24", ip_range="10.1.0.128/25"),
            "(br-n): conflicts with network " + "other" * 8 + " (br-other): networks have overlapping IPv4",
        ),
    ],
)
def test_refused_pools(config: IPAMConfig, text: str) -> None:
    with pytest.raises(WharfError) as caught:
        pool(config)
    assert text in str(caught.value)


def test_gateway_modes() -> None:
    driver = BridgeDriver(None, ip_forward=False)  # type: ignore[arg-type]
    mode = "com.docker.network.bridge.gateway_mode_ipv4"
    inhibit = {"com.docker.network.bridge.inhibit_ipv4": "true"}
    driver.options({mode: "isolated"}, internal=True)
    with pytest.raises(SystemError_, match="'isolated' can only be used for an internal network"):
        driver.options({mode: "isolated"})
    assert driver.needs_gateway({}, internal=True)
    assert not driver.needs_gateway({mode: "isolated"}, internal=True)
    assert driver.needs_gateway(inhibit, internal=False)
    assert not driver.needs_gateway(inhibit, internal=True)


def test_configuration_networks() -> None:
    config = IPAMConfig(subnet="10.1.0.0/24")
    request = NetworkCreateRequest(name="c", config_only=True, ipam=IPAM(config=[config]), labels={"a": "b"})
    source = requests.make_configuration(request, NullDriver())
    assert (source.driver, source.config_only, source.pools[0].subnet) == ("null", True, "10.1.0.0/24")
    wanted = requests.configured(
        NetworkCreateRequest(name="n", config_from=ConfigReference(network="c")), source
    )
    assert wanted.labels == {"a": "b"}
    assert wanted.ipam is not None and wanted.ipam.config is not None
    assert wanted.ipam.config[0].subnet == "10.1.0.0/24"


def test_what_is_asked_of_an_endpoint() -> None:
    prefix = "com.docker.network.endpoint."
    settings = EndpointSettings(
        driver_opts={
            f"{prefix}ifname": "foo0",
            f"{prefix}sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.ifname.gc_stale_time=5",
        },
        ipam_config=EndpointIPAMConfig(link_local_ips=["169.254.7.7", "fe80::7"]),
    )
    assert endpoint_options.sysctl_problems(settings) == []
    assert endpoint_options.interface_name(settings) == "foo0"
    assert endpoint_options.sysctls(settings, "eth0.1") == {
        "net.ipv4.conf.eth0/1.log_martians": "1",
        "net.ipv4.neigh.eth0/1.gc_stale_time": "5",
    }
    assert endpoint_options.link_local(settings) == ["169.254.7.7/16"]
    endpoint_options.check_link_local(settings)
    public = EndpointSettings(ipam_config=EndpointIPAMConfig(link_local_ips=["1.2.3.4"]))
    with pytest.raises(InvalidParameter, match=r"invalid link local IP address: 1\.2\.3\.4"):
        endpoint_options.check_link_local(public)
    wrong = EndpointSettings(driver_opts={f"{prefix}sysctls": "net.ipv4.conf.eth0.log_martians=1"})
    assert (
        "unrecognised network interface sysctl 'net.ipv4.conf.eth0"
        in endpoint_options.sysctl_problems(wrong)[0]
    )
