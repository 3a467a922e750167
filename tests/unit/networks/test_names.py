"""Which addresses a name has, seen from one sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from services.engine.networks.dns.names import Names
from services.engine.networks.model import EndpointRecord, SandboxRecord
from services.protocol.api.networks import EndpointSettings


def sandbox(name: str, *endpoints: EndpointRecord) -> SandboxRecord:
    return SandboxRecord(
        id=name, container_id=name * 12, container_name=name, hostname="", endpoints=[*endpoints]
    )


def endpoint(network: str, address: str, **settings: Any) -> EndpointRecord:
    return EndpointRecord(
        id=address,
        network_id=f"id-{network}",
        network_name=network,
        ipv4=address,
        settings=EndpointSettings(**settings),
    )


ASKING = sandbox(
    "me",
    endpoint("a", "10.1.0.2", links=["web:lk", "other", "/web:/me/old"]),
    endpoint("b.net", "10.2.0.2"),
    endpoint("inner", "10.3.0.2"),
)
SANDBOXES = [
    ASKING,
    sandbox("web", endpoint("a", "10.1.0.3", aliases=["www"]), endpoint("b.net", "10.2.0.3")),
    sandbox("two", endpoint("a", "10.1.0.4", aliases=["www"]), endpoint("inner", "10.3.0.4")),
    sandbox("api", endpoint("inner", "10.3.0.5"), endpoint("b.net", "10.2.0.5")),
    sandbox("far", endpoint("elsewhere", "10.4.0.2")),
    sandbox("other", endpoint("b.net", "10.2.0.6")),
]


class FakeSandboxes:
    def users(self, network_id: str) -> list[tuple[SandboxRecord, EndpointRecord]]:
        found = ((one, one.endpoint(network_id)) for one in SANDBOXES)
        return [(one, end) for one, end in found if end is not None]

    def is_internal(self, network_id: str) -> bool:
        return network_id == "id-inner"


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("web", ["10.1.0.3"]),  # of the first network, not of both
        ("web.b.net", ["10.2.0.3"]),
        ("www", ["10.1.0.3", "10.1.0.4"]),
        ("two.inner", ["10.3.0.4"]),
        ("api", ["10.2.0.5"]),  # an internal network is asked last
        ("lk", ["10.1.0.3"]),
        ("lk.a", ["10.1.0.3"]),
        ("old", ["10.1.0.3"]),
        ("lk.b.net", None),
        ("other", ["10.2.0.6"]),  # the link of the first network leads nowhere: the next is asked
        ("far", None),
        ("net", None),
    ],
)
def test_addresses(name: str, addresses: list[str] | None) -> None:
    found = Names(FakeSandboxes()).addresses(ASKING, name)  # type: ignore[arg-type]
    assert (sorted(found) if found else None) == addresses


def test_priority_goes_before_the_name_of_the_network() -> None:
    asking = sandbox("me", endpoint("a", "10.1.0.2"), endpoint("b.net", "10.2.0.2", gw_priority=1))
    assert Names(FakeSandboxes()).addresses(asking, "web") == ["10.2.0.3"]  # type: ignore[arg-type]
