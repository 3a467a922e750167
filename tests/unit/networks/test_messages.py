"""Packing of netlink and nf_tables messages against bytes known to be right."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from services.engine.networks import nftables as nft
from services.engine.networks.firewall import BridgeRules, Firewall, PortRule, _port_element, _subnet_elements
from services.engine.networks.netlink import Message, NetlinkSocket, attribute, nested, parse, text, u32


def test_attribute_is_padded_but_its_length_is_not() -> None:
    assert attribute(3, b"eth0\0") == b"\x09\x00\x03\x00eth0\0\0\0\0"
    assert text(3, "abc") == b"\x08\x00\x03\x00abc\0"


def test_parse_undoes_packing_and_strips_the_nested_bit() -> None:
    data = nested(18, text(1, "veth"), u32(2, 7)) + u32(4, 1500)
    found = parse(data)
    assert struct.unpack("=I", found[4]) == (1500,)
    assert parse(found[18])[1] == b"veth\0"


def test_parse_stops_at_rubbish() -> None:
    assert parse(b"\x02\x00\x01\x00") == {}
    assert parse(b"\x08") == {}


def test_concatenated_key_fills_each_part_to_four_bytes() -> None:
    assert nft.key(bytes([10, 0, 0, 1]), bytes([6]), nft.port(80)) == bytes.fromhex(
        "0a000001 06000000 00500000"
    )


def test_published_port_on_every_address_has_no_address_in_its_key() -> None:
    rule = PortRule("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)
    element = parse(_port_element(rule))
    assert parse(element[1])[1] == bytes.fromhex("06000000 1f900000")
    assert parse(element[2])[1] == bytes.fromhex("ac110002 00500000")


def test_subnet_is_an_interval_with_an_open_end() -> None:
    start, end = _subnet_elements(BridgeRules("br0", ("10.77.0.0/24",)))
    assert parse(parse(start)[1])[1] == bytes([10, 77, 0, 0])
    assert parse(parse(end)[1])[1] == bytes([10, 77, 1, 0])
    assert parse(end)[3] == struct.pack(">I", 1)


def test_nothing_to_send_is_not_sent() -> None:
    kernel = NetlinkSocket(socket.NETLINK_ROUTE)
    try:
        assert kernel.transact([]) == []
    finally:
        kernel.close()


def test_rules_that_a_bridge_has_are_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What containers that run send meanwhile, at the engine's start, would leave untranslated."""
    sent: list[Sequence[Message]] = []
    monkeypatch.setattr(nft, "commit", lambda sock, messages: sent.append(messages))
    firewall: Any = Firewall.__new__(Firewall)
    firewall._table, firewall.socket = nft.Table("t", nft.FAMILY_IP), None
    rules = BridgeRules("br0", ("10.0.0.0/24",))
    firewall.reset([rules], [])
    firewall.add_bridge(rules)
    assert len(sent) == 1
    firewall.add_bridge(BridgeRules("br0", ("10.0.0.0/24",), icc=False))
    assert len(sent) > 1
