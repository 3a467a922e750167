"""``docker-proxy``: connections and datagrams are carried over, ends and all."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from reexec.helpers.proxy import Proxy
from services.protocol import fdpass
from services.protocol.relay import RelayAdd, RelayReady, RelayRemove, RelayState
from tests.harness.shims import wait_for


@pytest.fixture
def control() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=lambda: Proxy(theirs).serve())
    thread.start()
    yield ours
    fdpass.send(ours, RelayRemove("one"))  # without ports and without control it ends
    ours.close()
    thread.join(60)
    assert not thread.is_alive()


def front(kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind)
    sock.bind(("::1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


def relay(control: socket.socket, sock: socket.socket, protocol: str, port: int) -> int:
    fdpass.send(control, RelayAdd("one", protocol, "127.0.0.1", port), [sock.fileno()])
    number: int = sock.getsockname()[1]
    sock.close()
    return number


def test_both_ways_and_half_closed(control: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = relay(control, front(), "tcp", server.getsockname()[1])
        received = bytearray()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(1 << 16):
                    received.extend(data)
                connection.sendall(received)  # only after the client's end

        thread = threading.Thread(target=serve)
        thread.start()
        sent = bytes(range(256)) * 16384
        back = bytearray()
        with socket.create_connection(("::1", port), timeout=60) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(1 << 16):
                back.extend(data)
        thread.join()
    assert bytes(received) == sent and bytes(back) == sent


def test_nobody_behind_it(control: socket.socket) -> None:
    with socket.socket() as held:  # nobody else gets the port, and nobody listens
        held.bind(("127.0.0.1", 0))
        port = relay(control, front(), "tcp", held.getsockname()[1])
        address = ("::1", port)
        with socket.create_connection(address, timeout=60) as client, contextlib.suppress(ConnectionError):
            assert client.recv(1) == b""


def test_datagrams(control: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        port = relay(control, front(socket.SOCK_DGRAM), "udp", server.getsockname()[1])
        clients = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2)]
        for number, client in enumerate(clients):
            client.settimeout(60)
            client.sendto(b"%d" % number, ("::1", port))
        for _ in clients:
            data, address = server.recvfrom(10)
            server.sendto(b"to " + data, address)
        assert [client.recv(10) for client in clients] == [b"to 0", b"to 1"]
        for client in clients:
            client.close()


def test_removed_port_is_closed(control: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = relay(control, front(), "tcp", server.getsockname()[1])
        with socket.create_connection(("::1", port), timeout=60) as client:
            server.accept()[0].close()
            fdpass.send(control, RelayRemove("one"))
            client.settimeout(60)
            with contextlib.suppress(ConnectionError):
                assert client.recv(1) == b""
    wait_for(lambda: not _accepts(port))


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("::1", port), timeout=60).close()
    except OSError:
        return False
    return True


def test_without_an_engine_it_serves_until_its_place_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever comes to that place while it serves is given its ports."""
    monkeypatch.setattr("reexec.helpers.proxy._UDP_IDLE", 0.3)
    path = tmp_path / "proxy.sock"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = fdpass.listen(path)
    thread = threading.Thread(target=lambda: Proxy(theirs, listener, str(path)).serve())
    thread.start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay(ours, front(), "tcp", server.getsockname()[1])
        ours.close()
        with fdpass.connect(path) as next_one:
            data, fds = fdpass.receive_raw(next_one)
            assert msgspec.msgpack.decode(data, type=RelayState) == RelayAdd(
                "one", "tcp", "127.0.0.1", server.getsockname()[1]
            )
            assert len(fds) == 1
            socket.socket(fileno=fds[0]).close()
            assert msgspec.msgpack.decode(fdpass.receive_raw(next_one)[0], type=RelayState) == RelayReady()
        thread.join(0.5)
        assert thread.is_alive()
        fdpass.listen(path).close()
        thread.join(60)
        assert not thread.is_alive()
    listener.close()
