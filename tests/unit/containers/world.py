"""A create side without root: the real registry and events; images, layers, volumes of paper."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from reexec.helpers.copyup import CopiedUp
from services.engine.containers.create import create
from services.engine.containers.model import Entry
from services.engine.containers.registry import SCHEMA, Registry
from services.engine.containers.services import Services
from services.engine.contracts import Image
from services.engine.events import Events
from services.engine.rpc import Context
from services.engine.scopes import Background
from services.engine.store import Store
from services.protocol import jsonshape
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import Config, CreateReply, CreateRequest, GraphDriverData
from services.protocol.api.networks import EndpointSettings
from services.protocol.api.volumes import Volume
from services.protocol.errors import NotFound, WharfError
from services.protocol.paths import ExecRoot
from services.protocol.settings import Settings
from services.protocol.verbs.containers import CreateArgs

T = TypeVar("T")

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class FakeImages:
    def __init__(self) -> None:
        self.configs = {"busybox": Config(cmd=["sh"], env=[PATH])}

    def resolve(self, reference: str, platform: str = "") -> Image:
        name = reference.removesuffix(":latest")
        if name not in self.configs:
            raise NotFound(f"No such image: {reference}")
        return Image(
            id=f"sha256:{name}",
            config=self.configs[name],
            chain_id="chain",
            os="linux",
            architecture="amd64",
            reference=reference,
        )

    def ancestors(self, reference: str) -> set[str]:
        name = reference.removesuffix(":latest")
        return {f"sha256:{name}"} if name in self.configs else set()


class FakeLayers:
    driver_name = "overlay2"

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.directories: list[str] = []
        self.copied: list[tuple[str, str]] = []
        self.failing: WharfError | None = None

    async def create(self, container_id: str, chain_id: str, storage_opt: Mapping[str, str]) -> None:
        self.known.add(container_id)

    async def remove(self, container_id: str) -> None:
        self.known.discard(container_id)

    async def make_directory(self, container_id: str, path: str) -> None:
        if self.failing is not None:
            raise self.failing
        self.directories.append(path)

    async def copy_up(self, container_id: str, path: str, target: str) -> CopiedUp:
        self.copied.append((path, target))
        return CopiedUp.FILE if path == "/etc/passwd" else CopiedUp.COPIED

    async def sizes(self, container_id: str) -> tuple[int, int]:
        return 5, 1000

    def graph_driver(self, container_id: str) -> GraphDriverData:
        return GraphDriverData(name="overlay2", data={})


class FakeVolumes:
    def __init__(self, root: Path) -> None:
        self._root = root
        self.known: dict[str, Volume] = {}
        self.held: set[tuple[str, str]] = set()
        self.anonymous: set[str] = set()

    async def create(
        self,
        name: str,
        driver: str,
        options: Mapping[str, str],
        labels: Mapping[str, str] | None,
        on_name: Callable[[str], None] | None = None,
    ) -> Volume:
        if driver not in ("", "local"):
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found'
            )
        if not name:
            name = f"anonymous{len(self.known)}"
            self.anonymous.add(name)
            if on_name is not None:
                on_name(name)
        path = self._root / name
        path.mkdir(exist_ok=True)
        volume = Volume(driver="local", labels=None, mountpoint=str(path), name=name, options=None)
        return self.known.setdefault(name, volume)

    def get(self, name: str) -> Volume:
        return self.known[name]

    async def mount(self, name: str, container_id: str, told: Mapping[str, str] | None = None) -> str:
        self.held.add((name, container_id))
        return self.known[name].mountpoint

    async def unmount(self, name: str, container_id: str, *, told: bool = False) -> None:
        self.held.discard((name, container_id))

    async def remove(self, name: str, *, force: bool = False) -> None:
        del self.known[name]

    def is_anonymous(self, name: str) -> bool:
        return name in self.anonymous


class FakeNetworks:
    async def rename(self, container_id: str, name: str) -> None:
        """Nothing runs here."""

    def check(self, network_mode: str, endpoints: Mapping[str, EndpointSettings]) -> None:
        return None

    async def detach(self, container_id: str) -> None:
        return None


class FakeShims:
    def __init__(self) -> None:
        self.updates: list[bytes] = []

    async def update(self, container_id: str, resources: bytes) -> None:
        self.updates.append(resources)

    async def stats(self, container_id: str) -> pb.StatsResponse:
        raise NotFound("no task")


async def _no_fds() -> list[int]:
    return []


class World:
    def __init__(self, root: Path) -> None:
        exec_root = ExecRoot(root / "exec")
        exec_root.shims.mkdir(parents=True)
        (root / "volumes").mkdir()
        self.images, self.layers = FakeImages(), FakeLayers()
        self.volumes, self.shims = FakeVolumes(root / "volumes"), FakeShims()
        self.store = Store(root / "engine.db", (SCHEMA,))
        self.actions: list[tuple[str, dict[str, str]]] = []
        self.services = Services(
            settings=Settings(data_root=str(root), exec_root=str(exec_root.root)),
            data_root=root,
            exec_root=exec_root,
            registry=Registry(self.store),
            events=Events(lambda item: self.actions.append((item.event.action, item.event.actor.attributes))),
            images=cast("Any", self.images),
            layers=cast("Any", self.layers),
            networks=cast("Any", FakeNetworks()),
            volumes=cast("Any", self.volumes),
            shims=cast("Any", self.shims),
            background=Background("test"),
        )

    async def create(
        self, body: dict[str, Any], name: str = "", version: tuple[int, int] = (1, 50), *, attempt: int = 1
    ) -> CreateReply:
        request = jsonshape.convert(body, CreateRequest)
        args = CreateArgs(name, request, api_version=version)
        return await create(self.services, args, Context(f"request-{name}", attempt, _no_fds))

    async def made(self, body: dict[str, Any] | None = None, name: str = "") -> Entry:
        reply = await self.create({"Image": "busybox", **(body or {})}, name)
        return self.services.registry.get(reply.id)

    def close(self) -> None:
        self.store.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)
