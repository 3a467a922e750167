"""Ports published on IPv6 addresses: served by ``docker-proxy``, which outlives the engine."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

import pytest

from services.containerd_shim.state import is_alive, start_time
from tests.harness.engine import SERVICES, Engine
from tests.harness.readiness import wait_until

_ECHO = "exec nc -ll -p 7 -e cat"


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("::1", port), timeout=60)
    return connection


def _echoes(connection: socket.socket, text: bytes) -> bool:
    connection.sendall(text)
    received = b""
    while len(received) < len(text):
        data = connection.recv(100)
        if not data:
            return False
        received += data
    return received == text


def _answers(port: int) -> bool:
    try:
        with _connect(port) as connection:
            return _echoes(connection, b"new")
    except OSError:
        return False


def _helpers(engine: Engine) -> list[int]:
    """Pids of the relays that have this daemon's socket open, or had."""
    found = []
    inodes = {
        line.split()[6]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if line.endswith(f"{engine.exec_root}/docker-proxy.sock")
    }
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if b"docker-proxy" not in Path(entry.path, "cmdline").read_bytes():
                continue
            links = _links(Path(entry.path, "fd"))
        except OSError:
            continue
        if any(f"socket:[{inode}]" in links for inode in inodes):
            found.append(int(entry.name))
    return found


def _links(directory: Path) -> set[str]:
    """Of those descriptors that stay: it closes one of a connection that has just ended."""
    links = set()
    for name in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            links.add(os.readlink(directory / name))
    return links


def _published(engine: Engine, name: str) -> set[str]:
    ports = engine.client.api.inspect_container(name)["NetworkSettings"]["Ports"]["7/tcp"]
    return {item["HostIp"] for item in ports}


def _port(engine: Engine, name: str) -> int:
    ports = engine.client.api.inspect_container(name)["NetworkSettings"]["Ports"]["7/tcp"]
    return next(int(item["HostPort"]) for item in ports if ":" in item["HostIp"])


def _unused_port() -> int:
    """One that stays unused while no engine is there: nobody is given it (ip(7): ip_local_port_range)."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
            probe.bind(("::", port))
            return port


@pytest.mark.parametrize(
    "victims", [("engine",), ("containerd-shim",), SERVICES], ids=["engine", "shim", "all"]
)
@pytest.mark.parametrize("address", ["[::1]:", ""], ids=["loopback", "any"])
def test_a_connection_outlives_the_services(
    engine: Engine, name: str, victims: tuple[str, ...], address: str
) -> None:
    publish = f"{address}:7" if address else "7"
    engine.docker("run", "-d", "--name", name, "-p", publish, "busybox", "sh", "-c", _ECHO)
    port = _port(engine, name)
    wait_until(lambda: _answers(port), "the port answers by IPv6")
    helpers = _helpers(engine)
    assert len(helpers) == 1
    with _connect(port) as connection:
        assert _echoes(connection, b"before")
        engine.kill(*victims)
        assert _echoes(connection, b"at once")
        engine.wait_ready()
        assert _echoes(connection, b"after")
    wait_until(lambda: _answers(port), "new connections are served")
    assert _helpers(engine) == helpers
    assert _port(engine, name) == port
    engine.docker("rm", "-f", name)
    wait_until(lambda: not _answers(port), "the port is given back")


def test_a_port_given_back_while_the_engine_was_away(engine: Engine, name: str) -> None:
    """Its container has ended meanwhile: nobody listens any more, and the port can be given again."""
    engine.docker("run", "-d", "--name", name, "-p", "7", "busybox", "sh", "-c", _ECHO)
    port = _port(engine, name)
    pid = engine.client.api.inspect_container(name)["State"]["Pid"]
    engine.supervisor.stopProcess("engine")
    os.kill(pid, 9)
    engine.supervisor.startProcess("engine")
    engine.wait_ready()
    wait_until(lambda: not _answers(port), "the port is given back")
    engine.docker("rm", "-f", name)
    engine.docker("run", "-d", "--name", name, "-p", f"{port}:7", "busybox", "sh", "-c", _ECHO)
    wait_until(lambda: _answers(port), "the port is served again")


def test_the_helper_ends_with_the_daemon(engine: Engine, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "-p", "7", "busybox", "sh", "-c", _ECHO)
    wait_until(lambda: len(_helpers(engine)) == 1, "there is a helper")
    (helper,) = _helpers(engine)
    began = start_time(helper)
    engine.docker("rm", "-f", name)
    engine.restart()
    wait_until(lambda: not is_alive(helper, began), "the helper has ended")


def test_it_ends_when_it_is_switched_off(name: str) -> None:
    """What it served is not served, shown or held any more; all is back when it is switched on."""
    engine = Engine("--live-restore")
    port = _unused_port()
    try:
        engine.start()
        engine.load_images()
        engine.docker("run", "-d", "--name", name, "-p", f"{port}:7", "busybox", "sh", "-c", _ECHO)
        wait_until(lambda: _answers(port), "the port answers by IPv6")
        (helper,) = _helpers(engine)
        began = start_time(helper)
        engine.restart("--userland-proxy=false")
        wait_until(lambda: not is_alive(helper, began), "the helper has ended")
        assert _published(engine, name) == {"0.0.0.0"}
        with socket.socket(socket.AF_INET6) as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections may linger
            free.bind(("::1", port))
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            assert _echoes(connection, b"by IPv4")
        engine.restart()
        wait_until(lambda: _answers(port), "the port answers by IPv6 again")
        assert _published(engine, name) == {"0.0.0.0", "::"}
    finally:
        engine.close()
