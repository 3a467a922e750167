"""Subnets and addresses are given once, the lowest first, and come back."""

from __future__ import annotations

import ipaddress

import pytest

from services.engine.networks.ipam import (
    DEFAULT_POOLS,
    AddressSpace,
    NetworkAddresses,
    PoolRecord,
    choose_subnet,
    mac_address,
)
from services.protocol.errors import Forbidden, InvalidParameter, SystemError_
from services.protocol.settings import AddressPool


def network(subnet: str, **more: object) -> NetworkAddresses:
    gateway = str(ipaddress.ip_network(subnet)[1])
    return NetworkAddresses("n1 (id)", [PoolRecord(subnet=subnet, gateway=gateway, **more)])


def test_how_full_a_subnet_is() -> None:
    (space,) = network("10.1.0.0/24", ip_range="10.1.0.128/25").spaces
    assert (space.in_use(), space.available()) == (3, 127)
    assert space.next() is not None
    assert space.take(ipaddress.ip_address("10.1.0.7"))
    assert (space.in_use(), space.available()) == (5, 126)


def test_lowest_free_address_goes_round_taken_ones() -> None:
    addresses = network("10.210.27.0/29")
    assert addresses.allocate(4, "10.210.27.4") == "10.210.27.4"
    assert [addresses.allocate(4) for _ in range(4)] == [
        "10.210.27.2",
        "10.210.27.3",
        "10.210.27.5",
        "10.210.27.6",
    ]
    with pytest.raises(SystemError_, match=r"no available IPv4 addresses on .* pools: n1"):
        addresses.allocate(4)
    addresses.release("10.210.27.3")
    assert addresses.allocate(4) == "10.210.27.3"


@pytest.mark.parametrize("taken", ["10.0.0.0", "10.0.0.1", "10.0.0.7"])
def test_network_gateway_and_broadcast_are_taken(taken: str) -> None:
    with pytest.raises(Forbidden, match="Address already in use"):
        network("10.0.0.0/29").allocate(4, taken)


def test_address_of_another_subnet_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"no configured subnet contains IP address 10\.1\.0\.1"):
        network("10.0.0.0/29").allocate(4, "10.1.0.1")


def test_range_bounds_automatic_addresses_only() -> None:
    addresses = network("10.0.0.0/24", ip_range="10.0.0.128/30", auxiliary={"router": "10.0.0.129"})
    assert [addresses.allocate(4) for _ in range(3)] == ["10.0.0.128", "10.0.0.130", "10.0.0.131"]
    with pytest.raises(SystemError_):
        addresses.allocate(4)
    assert addresses.allocate(4, "10.0.0.5") == "10.0.0.5"


def test_point_to_point_subnet_has_two_addresses() -> None:
    space = AddressSpace(ipaddress.ip_network("10.0.0.0/31"))
    assert [str(space.next()), str(space.next()), space.next()] == ["10.0.0.0", "10.0.0.1", None]


def test_release_of_a_foreign_address_changes_nothing() -> None:
    addresses = network("10.0.0.0/29")
    addresses.release("192.168.1.1")
    assert addresses.allocate(4) == "10.0.0.2"


def test_subnets_avoid_networks_and_routes() -> None:
    used = [ipaddress.ip_network("172.17.0.0/16"), ipaddress.ip_network("172.18.5.0/24")]
    assert str(choose_subnet(DEFAULT_POOLS, 4, used)) == "172.19.0.0/16"


def test_subnets_step_over_a_large_used_one() -> None:
    pools = [AddressPool("10.0.0.0/8", 24)]
    used = [ipaddress.ip_network("10.0.0.0/9")]
    assert str(choose_subnet(pools, 4, used)) == "10.128.0.0/24"


def test_pools_run_out() -> None:
    with pytest.raises(InvalidParameter, match="all predefined address pools have been fully subnetted"):
        choose_subnet([AddressPool("10.0.0.0/24", 24)], 4, [ipaddress.ip_network("10.0.0.0/25")])


def test_hardware_address_is_local_and_unicast() -> None:
    assert mac_address("10.0.0.2") == "02:42:0a:00:00:02"
