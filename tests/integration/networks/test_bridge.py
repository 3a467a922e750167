"""The default bridge: who reaches whom, published ports, and that nothing stays behind."""

from __future__ import annotations

import ipaddress
import os
import socket

import pytest

from services.engine.networks import nftables as nft
from services.engine.networks.links import Links
from services.engine.networks.netlink import Message, NetlinkSocket, parse, string
from services.protocol.api.containers import PortBinding
from services.protocol.api.networks import EndpointIPAMConfig, EndpointSettings
from services.protocol.errors import Forbidden, SystemError_
from tests.harness import SESSION
from tests.integration.networks.conftest import BRIDGE, Lab, fetch, gets_nothing

GATEWAY = "10.211.0.1"


def host_links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def tables() -> set[str]:
    """Names of the nf_tables tables of family ip."""
    sock = NetlinkSocket(nft.NETLINK_NETFILTER)
    try:
        get_tables = Message((10 << 8) | 1, 0, bytes([nft.FAMILY_IP, 0, 0, 0]))
        return {string(parse(payload[4:])[1]) for _, payload in sock.dump(get_tables)}
    finally:
        sock.close()


def test_containers_and_host_reach_each_other(lab: Lab) -> None:
    one, two = lab.box("one"), lab.box("two")
    assert (one.address, two.address) == ("10.211.0.2", "10.211.0.3")
    one.serve(80)
    assert two.fetch(one.address, 80) == "one sees 10.211.0.3"
    assert fetch(one.address, 80) == f"one sees {GATEWAY}"
    assert one.default_route() == "10.211.0.1 eth0"


def test_published_port_is_reached_from_everywhere(lab: Lab) -> None:
    web = lab.box("web", ports={"80/tcp": [PortBinding(host_port="28080")]})
    other = lab.box("other")
    web.serve(80)
    assert fetch("127.0.0.1", 28080) == f"web sees {GATEWAY}"
    assert fetch(GATEWAY, 28080).startswith("web")
    assert other.fetch(GATEWAY, 28080).startswith("web")
    assert web.fetch(GATEWAY, 28080).startswith("web")  # back through the port it came from
    lab.run(lab.controller.detach(web.id))
    assert gets_nothing("127.0.0.1", 28080)
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 28080))  # the port is free again


def test_port_published_on_loopback_stays_there(lab: Lab) -> None:
    web = lab.box("web", ports={"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="28081")]})
    other = lab.box("other")
    web.serve(80)
    assert fetch("127.0.0.1", 28081).startswith("web")
    assert gets_nothing(GATEWAY, 28081)
    assert other.gets_nothing(GATEWAY, 28081)


def test_containers_cannot_reach_the_hosts_loopback(lab: Lab) -> None:
    """route_localnet on the bridge, which published ports need, must not open it."""
    box = lab.box("box")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        loopback = ipaddress.ip_network("127.1.0.0/16")
        box.configure(lambda links: links.configure("eth0", [], [(loopback, GATEWAY)]))
        server.settimeout(0.2)
        assert box.gets_nothing("127.1.0.1", port)
        with pytest.raises(TimeoutError):
            server.accept()


def test_published_udp_port(lab: Lab) -> None:
    box = lab.box("box", ports={"53/udp": [PortBinding(host_port="28053")]})
    server = box.serve_udp(53)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.sendto(b"question", ("127.0.0.1", 28053))
        data, address = server.recvfrom(100)
        assert data == b"question"
        server.sendto(b"answer", address)
        assert client.recvfrom(100)[0] == b"answer"


def test_udp_client_finds_the_new_container(lab: Lab) -> None:
    """A client that goes on sending must not stay with a container that is gone."""
    ports = {"53/udp": [PortBinding(host_port="28054")]}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.sendto(b"too early", (GATEWAY, 28054))
        first = lab.box("first", ports=ports)
        server = first.serve_udp(53)
        client.sendto(b"one", (GATEWAY, 28054))
        assert server.recv(100) == b"one"
        lab.run(lab.controller.detach(first.id))
        lab.box("place")  # takes the address of the first
        server = lab.box("second", ports=ports).serve_udp(53)
        client.sendto(b"two", (GATEWAY, 28054))
        assert server.recv(100) == b"two"


def test_port_in_use_leaves_nothing_reserved(lab: Lab) -> None:
    lab.box("first", ports={"80/tcp": [PortBinding(host_port="28082")]})
    with pytest.raises(SystemError_) as raised:
        lab.box("second", ports={"80/tcp": [PortBinding(host_port="28082")]})
    assert "driver failed programming external connectivity on endpoint second" in str(raised.value)
    assert "Bind for 0.0.0.0:28082 failed: port is already allocated" in str(raised.value)
    assert lab.box("third").address == "10.211.0.3"


def test_gateway_address_cannot_be_taken(lab: Lab) -> None:
    settings = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address=GATEWAY))
    with pytest.raises(Forbidden, match="Address already in use"):
        lab.box("box", endpoints={"bridge": settings})


def test_masquerade_hides_the_subnet(lab: Lab) -> None:
    """A host beyond the bridge sees the daemon's host, and its answers come back."""
    box = lab.box("box")
    outside = lab.box("outside", mode="none")
    outer = f"who{SESSION}"
    links = Links()
    namespace_fd = os.open(f"/proc/{outside.pid}/ns/net", os.O_RDONLY)
    try:
        links.create_bridge(outer, "02:42:00:00:00:01", 1500)
        bridge = links.index(outer)
        links.add_address(bridge, ipaddress.ip_interface("10.212.0.1/24"))
        links.create_veth(
            f"veth{outer}", bridge, "eth9", "02:42:00:00:00:02", 1500, namespace_fd, isolated=False
        )
        inside = [ipaddress.ip_interface("10.212.0.2/24")]
        outside.configure(lambda links: links.configure("eth9", inside, []))
        outside.serve(80)
        box.serve(81)
        assert box.fetch("10.212.0.2", 80) == "outside sees 10.212.0.1"
        # Unpublished ports are closed to it, even when it knows a way.
        route = (ipaddress.ip_network("10.211.0.0/24"), "10.212.0.1")
        outside.configure(lambda links: links.configure("eth9", [], [route]))
        assert outside.gets_nothing(box.address, 81)
    finally:
        os.close(namespace_fd)
        links.delete([f"veth{outer}", outer])
        links.close()


def test_nothing_stays_in_the_kernel(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.box("one", ports={"80/tcp": [PortBinding(host_port="28083")]})
    # Others may make links of theirs meanwhile.
    made = {BRIDGE, *os.listdir(f"/sys/class/net/{BRIDGE}/brif")}
    assert len(made) == 2 and made <= host_links() and f"wharfd-{BRIDGE}" in tables()
    lab.close()
    assert not made & host_links()
    assert f"wharfd-{BRIDGE}" not in tables()


def test_container_in_host_and_none_mode(lab: Lab) -> None:
    none = lab.box("none-box", mode="none")
    assert none.links() == ["lo"]
    host = lab.box("host-box", mode="host", ports={"80/tcp": [PortBinding(host_port="28084")]})
    assert host.sandbox is not None and host.sandbox.ports == {}
    assert list(host.sandbox.endpoints) == ["host"]
