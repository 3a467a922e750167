"""Names of containers, asked at 127.0.0.11 as a container does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from services.engine.networks import namespace
from services.engine.networks.dns import message
from services.protocol.api.networks import (
    ConnectRequest,
    DisconnectRequest,
    EndpointSettings,
    NetworkCreateRequest,
)
from tests.integration.networks.conftest import Box, Lab

SERVER = ("127.0.0.11", 53)


def query(name: str, kind: int = message.A) -> bytes:
    head = struct.pack(">HHHHHH", 99, 0x0100, 1, 0, 0, 0)
    return head + message.encode_name(name) + struct.pack(">HH", kind, message.IN)


def ask(lab: Lab, box: Box, name: str, kind: int = message.A, *, tcp: bool = False) -> bytes:
    """The raw answer, while the controller's loop runs."""

    def work() -> bytes:
        if tcp:
            with socket.create_connection(SERVER, timeout=30) as stream:
                data = query(name, kind)
                stream.sendall(struct.pack(">H", len(data)) + data)
                (length,) = struct.unpack(">H", stream.recv(2, socket.MSG_WAITALL))
                return stream.recv(length, socket.MSG_WAITALL)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(30)
            sock.sendto(query(name, kind), SERVER)
            data, sender = sock.recvfrom(2000)
            assert sender == SERVER
            return data

    return lab.run(asyncio.to_thread(namespace.inside, box.pid, work))


def addresses(reply: bytes) -> list[str]:
    count = struct.unpack_from(">HHHHHH", reply)[3]
    tail = reply[len(reply) - 16 * count :]
    return sorted(socket.inet_ntoa(tail[n * 16 + 12 : n * 16 + 16]) for n in range(count))


def rcode(reply: bytes) -> int:
    return reply[3] & 0xF


@pytest.fixture
def two(lab: Lab) -> tuple[Lab, Box, Box]:
    for name in ("n1", "n2"):
        lab.run(lab.controller.create(NetworkCreateRequest(name=name)))
    web = lab.box("web", "n1", endpoints={"n1": EndpointSettings(aliases=["www", "shared"])})
    return lab, web, lab.box("client", "n1", endpoints={"n1": EndpointSettings(aliases=["shared"])})


@pytest.mark.parametrize("tcp", [False, True])
def test_every_name_of_a_container(two: tuple[Lab, Box, Box], tcp: bool) -> None:
    lab, web, client = two
    for name in ("web", "WEB", "www", "web.n1", web.id[:12]):
        assert addresses(ask(lab, client, name, tcp=tcp)) == [web.address]
    assert addresses(ask(lab, client, "shared")) == sorted([web.address, client.address])


def test_other_kinds_of_a_known_name_are_empty(two: tuple[Lab, Box, Box]) -> None:
    lab, _, client = two
    reply = ask(lab, client, "web", message.AAAA)
    assert (rcode(reply), addresses(reply)) == (message.NOERROR, [])


def test_reverse(two: tuple[Lab, Box, Box]) -> None:
    lab, web, client = two
    reversed_ = ".".join(reversed(web.address.split("."))) + ".in-addr.arpa"
    assert message.encode_name("web.n1") in ask(lab, client, reversed_, message.PTR)


def test_renamed_container_has_its_new_name(two: tuple[Lab, Box, Box]) -> None:
    lab, web, client = two
    sandbox = lab.run(lab.controller.rename(web.id, "site"))
    assert sandbox is not None and "site" in (sandbox.endpoints["n1"].dns_names or [])
    assert addresses(ask(lab, client, "site")) == [web.address]


def test_names_end_at_the_network(two: tuple[Lab, Box, Box]) -> None:
    lab, web, client = two
    stranger = lab.box("stranger", "n2")
    client_request = ConnectRequest(container="client")
    with upstream(lab, client, stranger):
        assert rcode(ask(lab, stranger, "web")) == message.SERVFAIL
        lab.run(lab.controller.connect("n2", client_request))
        assert len(addresses(ask(lab, stranger, "client"))) == 1
        lab.run(lab.controller.disconnect("n2", DisconnectRequest(container="client")))
        assert rcode(ask(lab, stranger, "client")) == message.SERVFAIL
        lab.run(lab.controller.detach(web.id))
        assert rcode(ask(lab, client, "web")) == message.SERVFAIL


@contextlib.contextmanager
def upstream(lab: Lab, *boxes: Box, reply: bytes = b"") -> Iterator[None]:
    """A server for all other names on the gateway of each box; it fails, or says *reply*."""
    servers = []
    for box in boxes:
        assert box.sandbox is not None
        gateway = next(iter(box.sandbox.endpoints.values())).gateway
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((gateway, 53))
        servers.append(sock)
        record = lab.controller._sandboxes.by_container[box.id]
        assert record.resolver is not None
        record.resolver.servers = [gateway]
        threading.Thread(target=_answer, args=(sock, reply), daemon=True).start()
    try:
        yield
    finally:
        for sock in servers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread, which holds the port else
            sock.close()


def _answer(sock: socket.socket, reply: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            data, client = sock.recvfrom(2000)
            if not data:
                return  # shut down
            question = message.parse(data)
            failed = message.answer(question, [], rcode=message.SERVFAIL)
            sock.sendto(message.answer(question, [reply]) if reply else failed, client)


def test_other_names_are_passed_on(two: tuple[Lab, Box, Box]) -> None:
    lab, _, client = two
    with upstream(lab, client, reply=bytes([1, 2, 3, 4])):
        reply = ask(lab, client, "example.test")
    assert addresses(reply) == ["1.2.3.4"]
    assert message.id_of(reply) == 99


def test_internal_network_asks_nobody(lab: Lab) -> None:
    lab.run(lab.controller.create(NetworkCreateRequest(name="inner", internal=True)))
    box = lab.box("box", "inner")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.53.1", 53))  # such a one would be asked by the host
        server.setblocking(False)
        record = lab.controller._sandboxes.by_container[box.id]
        assert record.resolver is not None
        record.resolver.servers = ["127.0.53.1"]
        assert rcode(ask(lab, box, "example.test")) == message.SERVFAIL
        with pytest.raises(BlockingIOError):
            server.recv(2000)
    assert addresses(ask(lab, box, "box")) == [box.address]


def test_container_may_have_port_53_itself(two: tuple[Lab, Box, Box]) -> None:
    lab, _, client = two
    server = client.serve_udp(53)
    client.serve(53)
    assert server.getsockname()[1] == 53
    assert len(addresses(ask(lab, client, "web"))) == 1


def test_names_are_back_after_the_engines_death(two: tuple[Lab, Box, Box]) -> None:
    lab, web, client = two
    lab.restart()
    assert addresses(ask(lab, client, "web")) == [web.address]


def test_a_client_that_goes_on_asking_from_its_port(two: tuple[Lab, Box, Box]) -> None:
    """A flow is translated as it was at first, and the next engine's server has another port."""
    lab, web, client = two
    sock = namespace.inside(client.pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def again() -> bytes:
        sock.sendto(query("web"), SERVER)
        return sock.recv(2000)

    with sock:
        sock.settimeout(30)
        for _ in range(2):
            assert addresses(lab.run(asyncio.to_thread(again))) == [web.address]
            lab.restart()
        assert addresses(lab.run(asyncio.to_thread(again))) == [web.address]


def test_default_bridge_has_no_names(lab: Lab) -> None:
    box = lab.box("box")
    assert lab.controller._sandboxes.by_container[box.id].resolver is None
