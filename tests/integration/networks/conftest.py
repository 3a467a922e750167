"""A network controller of the tests' own, and processes in namespaces that stand for containers."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec
import pytest

from services.engine.contracts import NetworkedContainer, Sandbox, SandboxRequest
from services.engine.events import Events
from services.engine.networks import SCHEMA, NetworkController, NetworkSettings, namespace
from services.engine.networks.links import Links
from services.engine.store import Store
from services.protocol.api.containers import PortBinding
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import NotFound
from services.protocol.messages import Published
from tests.harness import SESSION

T = TypeVar("T")
#: Another run of the tests on this host would take ours for its own.
BRIDGE = f"whn{SESSION}"


class Box:
    """A process in a namespace of its own; a server in it answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = (name.encode().hex() * 64)[:64]
        ready, done = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            libc = ctypes.CDLL(None)
            libc.prctl(1, signal.SIGKILL)
            libc.unshare(0x40000000)
            os.dup2(done, 3)
            os.closerange(4, 1024)  # a forked copy of the controller's sockets would hold its ports
            os.write(3, b"x")
            os.close(3)
            while True:
                signal.pause()
        os.close(done)
        os.read(ready, 1)
        os.close(ready)
        self._servers: list[socket.socket] = []
        self.sandbox: Sandbox | None = None
        self.configure(lambda links: links.set_up(links.index("lo")))

    def configure(self, change: Callable[[Links], T]) -> T:
        """*change* with the links of the box's namespace."""

        def work() -> T:
            links = Links()
            try:
                return change(links)
            finally:
                links.close()

        return namespace.inside(self.pid, work)

    def serve(self, port: int) -> None:
        def make() -> socket.socket:
            return socket.create_server(("0.0.0.0", port))

        server = namespace.inside(self.pid, make)
        self._servers.append(server)

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, address = server.accept()
                    with connection:
                        connection.sendall(f"{self.name} sees {address[0]}".encode())

        threading.Thread(target=answer, daemon=True).start()

    def serve_udp(self, port: int) -> socket.socket:
        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("0.0.0.0", port))
            sock.settimeout(30)
            return sock

        sock = namespace.inside(self.pid, make)
        self._servers.append(sock)
        return sock

    def fetch(self, address: str, port: int) -> str:
        """What a server says to this box; "" if nobody answers."""
        return namespace.inside(self.pid, lambda: fetch(address, port))

    def gets_nothing(self, address: str, port: int) -> bool:
        return namespace.inside(self.pid, lambda: gets_nothing(address, port))

    def links(self) -> list[str]:
        return sorted(namespace.inside(self.pid, lambda: [name for _, name in socket.if_nameindex()]))

    def default_route(self) -> str:
        """``"<gateway> <interface>"``, "" if there is none."""

        def read() -> str:
            for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]:
                name, destination, gateway = line.split()[:3]
                if destination == "00000000":
                    return f"{socket.inet_ntoa(bytes.fromhex(gateway)[::-1])} {name}"
            return ""

        return namespace.inside(self.pid, read)

    @property
    def address(self) -> str:
        assert self.sandbox is not None
        return next(iter(self.sandbox.endpoints.values())).ip_address

    def close(self) -> None:
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def fetch(address: str, port: int, timeout: float = 30) -> str:
    try:
        with socket.create_connection((address, port), timeout=timeout) as connection:
            return connection.recv(200).decode()
    except OSError:
        return ""


def gets_nothing(address: str, port: int) -> bool:
    """Whether nobody answers; what is dropped is tried twice by the kernel."""
    return not fetch(address, port, 1.5)


class Lab:
    """The controller under test with its event loop, and the boxes."""

    def __init__(self, directory: Path) -> None:
        self.runner = asyncio.Runner()
        self.directory = directory
        self.events: list[Published] = []
        self.boxes: dict[str, Box] = {}
        self.containers: dict[str, NetworkedContainer] = {}
        self.settings = NetworkSettings(bridge=BRIDGE, bip="10.211.0.1/24")
        self.controller: NetworkController
        self._store: Store
        self.boot()

    def boot(self, running: Mapping[str, int] = MappingProxyType({})) -> None:
        async def boot() -> None:
            self.controller = NetworkController(self._store, Events(self.events.append), self.settings)
            self.controller.bind(self)
            await self.controller.restore(running)

        self._store = Store(self.directory / "engine.db", (SCHEMA,))
        self.run(boot())

    def run(self, awaitable: Awaitable[T]) -> T:
        async def work() -> T:
            return await awaitable

        return self.runner.run(work())

    def box(
        self,
        name: str,
        mode: str = "bridge",
        ports: Mapping[str, list[PortBinding]] | None = None,
        endpoints: Mapping[str, EndpointSettings] | None = None,
    ) -> Box:
        """A started container."""
        box = self.boxes[name] = Box(name)
        request = SandboxRequest(
            container_id=box.id,
            container_name=name,
            hostname=name,
            pid=0,
            network_mode=mode,
            endpoints=dict(endpoints or {mode: EndpointSettings()}),
            exposed_ports=[],
            port_bindings=dict(ports or {}),
            publish_all=False,
            links=[],
            dns=[],
            dns_search=[],
            dns_options=[],
        )
        box.sandbox, files = self.run(self.controller.allocate(request))
        hosts = self.directory / f"hosts-{name}"
        hosts.write_text(files.hosts)
        resolv_conf = self.directory / f"resolv.conf-{name}"
        resolv_conf.write_text(files.resolv_conf)
        self.containers[name] = NetworkedContainer(
            id=box.id,
            name=name,
            hostname=name,
            domainname="",
            network_mode=mode,
            pid=box.pid,
            endpoints=box.sandbox.endpoints,
            hosts_path=str(hosts),
            resolv_conf_path=str(resolv_conf),
        )
        setup = self.run(self.controller.attach(box.id, box.pid))
        for one in setup.interfaces:
            addresses = [ipaddress.ip_interface(address) for address in one.addresses]
            routes = [(None, route.gateway) for route in setup.routes if route.interface == one.name]
            namespace.configure(box.pid, one.name, addresses, routes)
        return box

    # ContainerNetworks

    @contextlib.asynccontextmanager
    async def hold(self, ref: str) -> AsyncIterator[NetworkedContainer]:
        found = [one for name, one in self.containers.items() if ref in (name, one.id)]
        if not found:
            raise NotFound(f"No such container: {ref}")
        yield found[0]

    async def set_endpoints(
        self, container_id: str, requested: Mapping[str, EndpointSettings], sandbox: Sandbox | None
    ) -> None:
        endpoints = sandbox.endpoints if sandbox else dict(requested)
        for name, container in self.containers.items():
            if container.id == container_id:
                self.containers[name] = msgspec.structs.replace(container, endpoints=endpoints)

    # The engine's death

    def restart(self, *dead: str) -> None:
        """As after ``kill -9`` of the engine: nothing is undone, sockets vanish, all is read again."""
        self.forget()
        self.boot_again(*dead)

    def forget(self) -> None:
        self.run(self.controller._dns.close())
        self.controller._ports.close()
        self.controller._kernel.close()
        self.run(self.controller._background.drain())
        self._store.close()

    def boot_again(self, *dead: str) -> None:
        self.boot({box.id: box.pid for name, box in self.boxes.items() if name not in dead})

    def stop(self) -> None:
        """The engine's orderly end."""
        self.run(self.controller.close())
        self._store.close()

    def close(self) -> None:
        for box in self.boxes.values():
            self.run(self.controller.detach(box.id))
            box.close()
        self.run(self.controller.prune({}))
        self.stop()
        self.runner.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.close()
