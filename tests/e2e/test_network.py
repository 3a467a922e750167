"""The default bridge: published ports, traffic between containers, the other network modes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

pytestmark = pytest.mark.usefixtures("docker_command")

SERVE = "mkdir -p /w; echo {text} >/w/index.html; httpd -f -p {port} -h /w"


def serve(engine: Engine, name: str, text: str, *flags: str, port: int = 80) -> None:
    engine.docker(
        "run", "-d", "--name", name, *flags, "busybox", "sh", "-c", SERVE.format(text=text, port=port)
    )


def fetch(address: tuple[str, int]) -> str:
    """Body of a GET; empty while nobody listens."""
    try:
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while chunk := connection.recv(4096):
                data += chunk
    except OSError:
        return ""
    return data.partition(b"\r\n\r\n")[2].decode().strip()


def address(engine: Engine, name: str) -> str:
    document = json.loads(engine.docker("inspect", name).stdout)[0]
    found: str = document["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    return found


def port(engine: Engine, name: str, inside: str) -> tuple[str, int]:
    host, _, number = engine.docker("port", name, inside).stdout.splitlines()[0].rpartition(":")
    return ("127.0.0.1" if host == "0.0.0.0" else host), int(number)


def test_published_port(engine: Engine, name: str) -> None:
    serve(engine, name, "published", "-p", "80")
    where = port(engine, name, "80/tcp")
    wait_until(lambda: fetch(where) == "published", "the published port answers")
    wait_until(lambda: fetch((address(engine, name), 80)) == "published", "the container answers by address")
    engine.docker("rm", "-f", name)
    assert fetch(where) == ""


def test_published_on_one_address(engine: Engine, name: str) -> None:
    serve(engine, name, "loopback", "-p", "127.0.0.1::80")
    where = port(engine, name, "80/tcp")
    assert where[0] == "127.0.0.1"
    wait_until(lambda: fetch(where) == "loopback", "the loopback address answers")


def test_port_in_use_is_refused(engine: Engine, name: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        number = taken.getsockname()[1]
        done = engine.docker("run", "--name", name, "-p", f"{number}:80", "busybox", "true", check=False)
    assert done.returncode == 125
    assert "address already in use" in done.stderr or "port is already allocated" in done.stderr


UDP_ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 9))
while True:
    data, client = server.recvfrom(100)
    server.sendto(data, client)
"""


def test_udp(engine: Engine, name: str) -> None:
    """The image has no UDP server: one runs in the container's namespace."""
    engine.docker("run", "-d", "--name", name, "-p", "9/udp", "busybox", "sleep", "300")
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", name).stdout.strip()
    server = subprocess.Popen(["nsenter", "--target", pid, "--net", sys.executable, "-c", UDP_ECHO])
    where = port(engine, name, "9/udp")

    def echoed() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.5)
            client.connect(where)
            try:
                client.send(b"ping\n")
                return client.recv(100) == b"ping\n"
            except OSError:
                return False

    try:
        wait_until(echoed, "the datagram comes back")
    finally:
        server.kill()
        server.wait()


def test_between_containers(engine: Engine, name: str) -> None:
    serve(engine, name, "neighbour")
    there = address(engine, name)
    wait_until(lambda: fetch((there, 80)) == "neighbour", "the server is up")
    out = engine.docker("run", "--rm", "busybox", "wget", "-qO-", f"http://{there}/").stdout
    assert out == "neighbour\n"


def test_shared_network(engine: Engine, name: str) -> None:
    serve(engine, name, "shared", port=8080)
    wait_until(lambda: fetch((address(engine, name), 8080)) == "shared", "the server is up")
    out = engine.docker(
        "run", "--rm", "--network", f"container:{name}", "busybox", "wget", "-qO-", "http://127.0.0.1:8080/"
    ).stdout
    assert out == "shared\n"


def test_host_and_none(engine: Engine) -> None:
    host = engine.docker("run", "--rm", "--network", "host", "busybox", "ip", "-o", "link").stdout
    assert engine.bridge in host
    none = engine.docker("run", "--rm", "--network", "none", "busybox", "ip", "-o", "link").stdout
    assert [line.split(":")[1].strip() for line in none.splitlines()] == ["lo"]


def test_the_host_is_the_gateway(engine: Engine) -> None:
    out = engine.docker("run", "--rm", "busybox", "ip", "route").stdout
    gateway = out.split()[2]
    engine.docker("run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", gateway)


def test_what_a_network_shows(engine: Engine) -> None:
    """Its subnet with the gateway that was chosen; and how full it is, of newer API versions."""
    engine.docker("network", "create", "--subnet", "10.211.60.0/24", "shown")
    (document,) = json.loads(engine.docker("network", "inspect", "shown").stdout)
    assert document["IPAM"]["Config"] == [{"Subnet": "10.211.60.0/24", "Gateway": "10.211.60.1"}]
    assert document["Containers"] == {}
    gateway = engine.docker("run", "--rm", "--network", "shown", "busybox", "ip", "route").stdout
    assert "default via 10.211.60.1 dev eth0" in gateway
    api = engine.client.api
    newest = api.get(f"{api.base_url}/v1.52/networks/shown").json()
    assert newest["Status"] == {
        "IPAM": {"Subnets": {"10.211.60.0/24": {"IPsInUse": 3, "DynamicIPsAvailable": 253}}}
    }
    assert "Status" not in api.get(f"{api.base_url}/v1.51/networks/shown").json()
    listed = api.get(f"{api.base_url}/v1.52/networks").json()
    assert all("Containers" not in one for one in listed)
    engine.docker("network", "rm", "shown")


def test_an_isolated_network(engine: Engine) -> None:
    mode = ["-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated"]
    done = engine.docker("network", "create", *mode, "alone", check=False)
    assert "gateway mode 'isolated' can only be used for an internal network" in done.stderr
    engine.docker("network", "create", "--internal", *mode, "--subnet", "10.211.61.0/24", "alone")
    inside = ["run", "--rm", "--network", "alone", "busybox", "sh", "-c"]
    assert (
        engine.docker(*inside, "ip route").stdout == "10.211.61.0/24 dev eth0 scope link  src 10.211.61.1 \n"
    )
    assert engine.docker(*inside, "ping -c1 -W1 10.211.61.2 >/dev/null || echo nobody").stdout == "nobody\n"
    engine.docker("network", "rm", "alone")


def test_maps_are_shown_in_the_order_of_their_keys(engine: Engine) -> None:
    """As Go writes them: the docker command prints an answer as it came."""
    labels = {"zz": "1", "a": "2", "m": "3"}
    network = engine.client.networks.create("sorted", labels=labels)
    try:
        assert list(network.attrs["Labels"]) == ["a", "m", "zz"]
    finally:
        network.remove()


def test_networks_of_a_container_that_does_not_run(engine: Engine, name: str) -> None:
    """What is joined and left is a wish: its settings are checked, the network may be missing."""

    def refused(*arguments: str) -> str:
        done = engine.docker("network", *arguments, check=False)
        assert done.returncode == 1
        return done.stderr.strip()

    engine.docker("create", "--name", name, "busybox", "true")
    ident = engine.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
    engine.docker("network", "create", "--subnet", "10.211.62.0/24", "later")
    assert refused("connect", "--ip", "10.9.9.9", "later", name).endswith(
        "invalid endpoint settings:\nno configured subnet contains IP address 10.9.9.9"
    )
    engine.docker("network", "connect", "--alias", "al", "later", name)
    engine.docker("network", "connect", "later", name)
    engine.docker("network", "connect", "missing", name)
    shown = json.loads(engine.docker("inspect", name).stdout)[0]["NetworkSettings"]["Networks"]
    assert shown["later"]["DNSNames"] == [name, "al", ident[:12]]
    assert set(shown) == {"bridge", "later", "missing"}
    done = engine.docker("start", name, check=False)
    assert "failed to set up container networking: network missing not found" in done.stderr
    engine.docker("network", "disconnect", "missing", name)
    assert refused("disconnect", "missing", name) == (
        f"Error response from daemon: container {ident} is not connected to the network missing"
    )
    assert engine.docker("start", name).stdout.strip() == name
    engine.docker("rm", "-f", name)
    engine.docker("network", "rm", "later")


def _nameservers(engine: Engine, name: str) -> str:
    return engine.docker("exec", name, "grep", "^nameserver", "/etc/resolv.conf").stdout.strip()


def test_names_are_found_after_a_later_connect(engine: Engine, name: str) -> None:
    """A container of the default bridge gets the embedded DNS server with its first network that has it."""
    server, edited = f"{name}-web", f"{name}-edited"
    engine.docker("network", "create", "--subnet", "10.211.63.0/24", "named")
    try:
        engine.docker("run", "-d", "--name", server, "--network", "named", "busybox", "sleep", "1000")
        engine.docker("run", "-d", "--name", name, "--dns", "192.0.2.1", "busybox", "sleep", "1000")
        engine.docker("run", "-d", "--name", edited, "--dns", "192.0.2.1", "busybox", "sleep", "1000")
        engine.docker("exec", edited, "sh", "-c", "echo '# mine' >>/etc/resolv.conf")
        for client in (name, edited):
            assert _nameservers(engine, client) == "nameserver 192.0.2.1"
            engine.docker("network", "connect", "named", client)
        assert _nameservers(engine, name) == "nameserver 127.0.0.11"
        assert "1 packets received" in engine.docker("exec", name, "ping", "-c1", "-W5", server).stdout
        assert _nameservers(engine, edited) == "nameserver 192.0.2.1", "what the user wrote stays"
        engine.kill("engine")
        engine.wait_ready()
        assert "1 packets received" in engine.docker("exec", name, "ping", "-c1", "-W5", server).stdout
        engine.docker("network", "disconnect", "named", name)
        assert _nameservers(engine, name) == "nameserver 127.0.0.11"
        engine.docker("restart", "-t", "0", name)
        assert _nameservers(engine, name) == "nameserver 192.0.2.1"
    finally:
        engine.docker("rm", "-f", name, server, edited)
        engine.docker("network", "rm", "named")
