"""Port specifications, and host ports that are really held."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.engine.networks.ports import (
    HostPorts,
    PortRequest,
    describe,
    parse_range,
    port_requests,
)
from services.protocol.api.containers import PortBinding
from services.protocol.errors import InvalidParameter, SystemError_, Unimplemented
from tests.harness.network import unused_port


@pytest.fixture
def ports() -> Iterator[HostPorts]:
    held = HostPorts()
    yield held
    held.close()


def request(number: int, host_ip: str = "", protocol: str = "tcp", last: int = 0) -> PortRequest:
    return PortRequest(protocol, 80, host_ip, (number, last or number))


@pytest.mark.parametrize("text", ["abc", "70000", "18156-18155", "1-", "-1"])
def test_bad_specification_is_refused_in_dockers_words(text: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        parse_range(text)
    assert str(raised.value) == f'invalid port specification: "{text}"'


def test_requests_are_ordered_and_publish_all_adds_the_exposed() -> None:
    bindings = {"81/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8081")], "53/udp": [PortBinding()]}
    wanted = port_requests(["99/tcp"], bindings, True)
    assert [(one.container_port, one.protocol, one.host_ip, one.host_ports) for one in wanted] == [
        (53, "udp", "", (0, 0)),
        (81, "tcp", "127.0.0.1", (8081, 8081)),
        (99, "tcp", "", (0, 0)),
    ]
    assert port_requests(["99/tcp"], {}, False) == []


def test_wildcard_is_one_entry_per_family(ports: HostPorts) -> None:
    number = unused_port()
    published = ports.reserve(request(number))
    assert describe(["7000/tcp"], published) == {
        "7000/tcp": None,
        "80/tcp": [
            PortBinding(host_ip=host, host_port=str(number)) for host in [one.host_ip for one in published]
        ],
    }
    assert published[0].host_ip == "0.0.0.0"


def test_conflict_names_the_holder(ports: HostPorts) -> None:
    number = unused_port()
    published = ports.reserve(request(number, "0.0.0.0"))
    with pytest.raises(
        SystemError_, match=rf"Bind for 0\.0\.0\.0:{number} failed: port is already allocated"
    ):
        ports.reserve(request(number, "127.0.0.1"))
    ports.reserve(request(number, protocol="udp"))  # another protocol is another port
    ports.release(published)
    ports.reserve(request(number, "127.0.0.1"))


def test_wildcard_conflicts_with_a_held_address(ports: HostPorts) -> None:
    number = unused_port()
    ports.reserve(request(number, "127.0.0.1"))
    with pytest.raises(SystemError_, match=rf"Bind for 127\.0\.0\.1:{number} failed"):
        ports.reserve(request(number, "0.0.0.0"))


def test_port_of_another_program(ports: HostPorts) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(SystemError_) as raised:
            ports.reserve(request(number, "127.0.0.1"))
    expected = f"failed to bind host port 127.0.0.1:{number}/tcp: address already in use"
    assert str(raised.value) == expected
    ports.reserve(request(number, "127.0.0.1"))  # a failure holds nothing


def test_foreign_address(ports: HostPorts) -> None:
    with pytest.raises(SystemError_, match=r"192\.0\.2\.77:18153/tcp: cannot assign requested address"):
        ports.reserve(request(18153, "192.0.2.77"))


def test_held_port_cannot_be_shared_by_reuse(ports: HostPorts) -> None:
    number = unused_port()
    ports.reserve(request(number, "127.0.0.1"))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError):
            other.bind(("127.0.0.1", number))


def test_range_gives_the_next_free_one(ports: HostPorts) -> None:
    first = next(n for n in range(20000, 30000, 10) if _all_free(n, n + 2))
    given = [ports.reserve(request(first, "127.0.0.1", last=first + 1))[0].host_port for _ in range(2)]
    assert given == [first, first + 1]
    with pytest.raises(SystemError_, match="port is already allocated"):
        ports.reserve(request(first, "127.0.0.1", last=first + 1))


def test_any_port_is_an_ephemeral_one(ports: HostPorts) -> None:
    first, second = (ports.reserve(PortRequest("tcp", 80, "127.0.0.1", (0, 0)))[0] for _ in range(2))
    assert first.host_port != second.host_port
    low, high = (int(n) for n in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert low <= first.host_port <= high


def test_sctp_is_refused_by_name(ports: HostPorts, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel's, where it has none."""
    number = unused_port()

    def refuse(*_: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr("services.engine.networks.ports.sctp_socket", refuse)
    text = f"failed to create socket for 127.0.0.1:{number}/sctp: protocol not supported"
    with pytest.raises(SystemError_, match=text):
        ports.reserve(request(number, "127.0.0.1", "sctp"))
    monkeypatch.setattr("services.engine.networks.ports.sctp_socket", socket.socket)
    with pytest.raises(Unimplemented, match="sctp"):
        ports.reserve(request(number, "127.0.0.1", "sctp"))


def _all_free(first: int, last: int) -> bool:
    for number in range(first, last):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                return False
    return True


def test_without_a_relay_nothing_is_held_that_nobody_serves() -> None:
    held = HostPorts(relayed=False)
    try:
        number = unused_port()
        assert [port.host_ip for port in held.reserve(request(number))] == ["0.0.0.0"]
        assert held.reserve(request(number, "::1")) == []
        assert held.held("tcp", "::1", number) is None
    finally:
        held.close()
