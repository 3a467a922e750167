"""Changes of networks, with the engine killed at one system call after the other.

What ran before keeps its connections, and kernel, database, files and API agree (``agreement``). Numbers as
in ``test_crash_points``.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator

import pytest

from services.engine.networks import namespace
from tests.e2e import agreement, victims
from tests.e2e.operations import Operation
from tests.e2e.operations_networks import NETWORKS
from tests.harness import crashpoints
from tests.harness.crashpoints import CALLS, CrashPoint
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

crashpoints.require()
pytestmark = pytest.mark.timeout(1200)


def _free_port() -> int:
    """One that nobody has for IPv4 and IPv6, tcp and udp."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as probe:
        port: int = probe.getsockname()[1]
    return port


def _is_free(port: int) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET6, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind(("::", port))


class Neighbours:
    """Two containers that talk all the time, and a published port."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.port = _free_port()
        self._published = _free_port()
        engine.docker("network", "create", "kept")
        httpd = ("busybox", "httpd", "-f", "-p", "80")
        kept = ("--network", "kept", "--network-alias")
        engine.docker("run", "-d", "--name", "web", *kept, "www", "-p", f"{self._published}:80", *httpd)
        engine.docker("network", "connect", "bridge", "web")
        engine.docker("run", "-d", "--name", "peer", *kept, "pal", *httpd)
        web, peer = (engine.client.api.inspect_container(name) for name in ("web", "peer"))
        address = web["NetworkSettings"]["Networks"]["kept"]["IPAddress"]
        self._pids = web["State"]["Pid"], peer["State"]["Pid"]
        self._address = address
        with namespace.inside(self._pids[0], lambda: socket.create_server((address, 7))) as server:
            self._talk = namespace.inside(
                self._pids[1], lambda: socket.create_connection((address, 7), timeout=30)
            )
            self._heard, _ = server.accept()

    def check(self) -> None:
        for one, other in ((self._talk, self._heard), (self._heard, self._talk)):
            one.sendall(b"still there")
            other.settimeout(30)
            assert other.recv(11) == b"still there"
        assert namespace.inside(self._pids[1], lambda: agreement.ask("www")) == self._address
        assert namespace.inside(self._pids[1], lambda: _is_answered(self._address, 80))
        wait_until(lambda: _is_answered("127.0.0.1", self._published), "the published port answers", 20)
        wait_until(lambda: _is_answered("::1", self._published), "the published port answers by IPv6", 20)

    def close(self) -> None:
        self._talk.close()
        self._heard.close()
        self._engine.docker("rm", "-f", "web", "peer", "point", check=False)
        self._engine.docker("network", "rm", "kept", "a-point", check=False)


def _is_answered(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


@pytest.fixture
def neighbours(engine: Engine) -> Iterator[Neighbours]:
    made = Neighbours(engine)
    try:
        yield made
    finally:
        made.close()


def _filled(engine: Engine, neighbours: Neighbours, command: tuple[str, ...]) -> list[str]:
    port = neighbours.port
    return [word.format(bridge=engine.bridge, tcp=port, range=f"{port + 1}-{port + 9}") for word in command]


def _play(engine: Engine, neighbours: Neighbours, operation: Operation, group: str, number: int) -> bool:
    """True if the call was reached. What failed with the engine killed succeeds when it is done again."""

    def docker(command: tuple[str, ...], *, check: bool = True) -> bool:
        done = engine.docker(*_filled(engine, neighbours, command), check=check)
        if done.returncode:
            print(number, operation.name, done.stderr.strip())
        return not done.returncode

    for command in operation.prepare:
        docker(command)
    wait_until(lambda: victims.is_steady(engine), "services run")
    with CrashPoint(engine.service_pids()["engine"], group, number) as point:
        succeeded = docker(operation.act, check=False)
        reached = point.reached
    engine.wait_ready()
    agreement.check(engine)
    neighbours.check()
    for command in operation.finish:
        docker(command, check=False)
    _is_free(neighbours.port)
    if not succeeded:
        for command in (*operation.prepare, operation.act, *operation.finish[-2:]):
            docker(command)
    assert not engine.docker("network", "ls", "-qf", "name=point").stdout
    agreement.check(engine)
    neighbours.check()
    return reached


@pytest.mark.parametrize("group", CALLS)
@pytest.mark.parametrize("operation", NETWORKS, ids=lambda operation: operation.name)
def test_engine_killed_at(engine: Engine, neighbours: Neighbours, operation: Operation, group: str) -> None:
    for number in range(1, crashpoints.LAST + 1):
        try:
            reached = _play(engine, neighbours, operation, group, number)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            raise AssertionError(f"{group} {number}: {error}\n{engine.log_tail()}") from error
        if not reached:
            break
