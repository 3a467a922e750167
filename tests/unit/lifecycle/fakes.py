"""A containers' world without root: the real database, registry and events; shims of paper."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from services.engine.containers.model import Container, ContainerState, Entry
from services.engine.containers.registry import SCHEMA, Registry
from services.engine.containers.services import Services
from services.engine.contracts import EtcFiles, Ports, Sandbox, SandboxRequest
from services.engine.events import Events
from services.engine.scopes import Background
from services.engine.shims import Shims
from services.engine.store import Store
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import Config, HostConfig
from services.protocol.errors import Conflict, NotFound, WharfError
from services.protocol.paths import ExecRoot
from services.protocol.settings import Settings

T = TypeVar("T")

_pids = itertools.count(1000)


class FakeShims(Shims):
    """The task service: tasks are protobuf states; ``end`` makes one exit."""

    def __init__(self, exec_root: ExecRoot) -> None:
        self._exec_root = exec_root
        self.all: dict[str, pb.StateResponse] = {}
        self.execs: dict[str, pb.StateResponse] = {}
        self.failing: dict[str, WharfError] = {}
        self.sizes: list[tuple[str, int, int]] = []
        #: Users that were asked for.
        self.asked: list[str] = []
        self.signals: list[tuple[str, int]] = []
        #: Signals that end the process, to its exit code.
        self.deadly = {9: 137, 15: 143}
        #: Containers whose shim has died.
        self.lost: set[str] = set()
        self.queue: asyncio.Queue[pb.Envelope] = asyncio.Queue()
        self._clock = itertools.count(2_000_000_000_000_000_000, 1000)

    async def ready(self) -> None:
        return None

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise self.failing[method]

    def _task(self, container_id: str) -> pb.StateResponse:
        if container_id not in self.all:
            raise NotFound(f"task {container_id} not found")
        return self.all[container_id]

    async def start_shim(self, request: pb.StartShimRequest) -> pb.StartShimResponse:
        self._fail("start_shim")
        if request.id in self.lost:
            raise Conflict(f"the shim of container {request.id} died and has not been deleted")
        self._exec_root.shim_dir(request.id).mkdir(parents=True, exist_ok=True)
        self.all.setdefault(request.id, pb.StateResponse(id=request.id, status=pb.PREPARED))
        return pb.StartShimResponse()

    async def create(self, request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        self._fail("create")
        task = self._task(request.id)
        if task.status != pb.PREPARED:
            raise Conflict(f"task {request.id} already exists")
        task.status, task.pid = pb.CREATED, next(_pids)
        return pb.CreateTaskResponse(pid=task.pid)

    async def start(self, request: pb.StartRequest) -> pb.StartResponse:
        self._fail("start")
        task = self.execs[request.exec_id] if request.exec_id else self._task(request.id)
        task.status, task.started_at = pb.RUNNING, next(self._clock)
        task.pid = task.pid or next(_pids)
        return pb.StartResponse(pid=task.pid, started_at=task.started_at)

    async def delete(
        self, container_id: str, exec_id: str = "", *, kill: bool = False, idle: bool = False
    ) -> pb.DeleteResponse:
        if exec_id:
            if exec_id not in self.execs:
                raise NotFound(f"exec {exec_id} not found")
            return pb.DeleteResponse(pid=self.execs.pop(exec_id).pid)
        task = self._task(container_id)
        self.lost.discard(container_id)
        if task.status in (pb.CREATED, pb.RUNNING, pb.PAUSED) and not kill:
            raise Conflict("it runs")
        del self.all[container_id]
        return pb.DeleteResponse(pid=task.pid)

    async def state(self, container_id: str, exec_id: str = "") -> pb.StateResponse:
        if exec_id and exec_id not in self.execs:
            raise NotFound(f"exec {exec_id} not found")
        return self.execs[exec_id] if exec_id else self._task(container_id)

    async def exec(self, request: pb.ExecProcessRequest) -> None:
        self._fail("exec")
        if request.exec_id in self.execs:
            raise Conflict(f"exec {request.exec_id} already exists")
        self.execs[request.exec_id] = pb.StateResponse(exec_id=request.exec_id, status=pb.PREPARED)

    async def check_user(self, container_id: str, user: pb.UserRef) -> None:
        self.asked.append(user.user)
        self._fail("check_user")

    async def resize(self, container_id: str, exec_id: str, *, height: int, width: int) -> None:
        self.sizes.append((exec_id, height, width))

    async def tasks(self) -> list[pb.StateResponse]:
        return list(self.all.values())

    async def kill(self, container_id: str, signal: int, *, exec_id: str = "", all: bool = False) -> None:
        if self._task(container_id).status == pb.STOPPED:
            raise NotFound("already finished")
        self.signals.append((container_id, signal))
        if signal in self.deadly:
            self.end(container_id, self.deadly[signal])

    async def pause(self, container_id: str) -> None:
        self._task(container_id).status = pb.PAUSED

    async def resume(self, container_id: str) -> None:
        self._task(container_id).status = pb.RUNNING

    async def events(self, handle: Callable[[pb.Envelope], Awaitable[None]]) -> None:
        while True:
            await handle(await self.queue.get())

    def end(self, container_id: str, code: int) -> None:
        """The init exits, and the event is sent."""
        task = self._task(container_id)
        task.status, task.exit_status, task.exited_at = pb.STOPPED, code, next(self._clock)
        self.queue.put_nowait(self.exit_event(container_id))

    def end_exec(self, exec_id: str, code: int) -> None:
        """An exec exits; the event is still on its way."""
        state = self.execs[exec_id]
        state.status, state.exit_status, state.pid = pb.STOPPED, code, 4711

    def exit_event(self, container_id: str) -> pb.Envelope:
        task = self._task(container_id)
        exit_ = pb.TaskExit(pid=task.pid, exit_status=task.exit_status, exited_at=task.exited_at)
        return pb.Envelope(id=container_id, exit=exit_)


class FakeNetworks:
    def __init__(self) -> None:
        self.allocated: set[str] = set()
        self.restored: dict[str, int] = {}
        self.failing: WharfError | None = None
        #: What is answered to a renaming.
        self.sandbox: Sandbox | None = None

    async def allocate(self, request: SandboxRequest) -> tuple[Sandbox, EtcFiles]:
        if self.failing is not None:
            raise self.failing
        self.allocated.add(request.container_id)
        return Sandbox(sandbox_id="s", sandbox_key="k", endpoints={}, ports={}), EtcFiles("", "")

    async def attach(self, container_id: str, pid: int) -> pb.NetworkSetup:
        return pb.NetworkSetup()

    async def detach(self, container_id: str) -> None:
        self.allocated.discard(container_id)

    async def rename(self, container_id: str, name: str) -> Sandbox | None:
        return self.sandbox

    async def restore(self, running: Mapping[str, int]) -> Mapping[str, Ports]:
        self.restored = dict(running)
        self.allocated = set(running)
        return {}


class FakeLayers:
    driver_name = "overlay2"

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.swept: set[str] | None = None

    def mounts(self, container_id: str) -> list[pb.Mount]:
        return []

    async def remove(self, container_id: str) -> None:
        self.known.discard(container_id)

    async def sweep(self, known: set[str]) -> None:
        self.swept = known


class FakeVolumes:
    def __init__(self) -> None:
        self.anonymous: set[str] = set()
        self.removed: list[str] = []
        self.failing: WharfError | None = None

    async def mount(self, name: str, container_id: str, told: Mapping[str, str] | None = None) -> str:
        if self.failing is not None:
            raise self.failing
        return f"/volumes/{name}"

    async def unmount(self, name: str, container_id: str, *, told: bool = False) -> None:
        return None

    async def remove(self, name: str, *, force: bool = False) -> None:
        if self.failing is not None:
            raise self.failing
        self.removed.append(name)

    def is_anonymous(self, name: str) -> bool:
        return name in self.anonymous


class World:
    """One engine's life; :meth:`reborn` is the next engine on the same database and shims."""

    def __init__(self, root: Path, shims: FakeShims | None = None) -> None:
        self.root = root
        exec_root = ExecRoot(root / "exec")
        exec_root.root.mkdir(exist_ok=True)
        self.shims = shims or FakeShims(exec_root)
        self.networks, self.layers, self.volumes = FakeNetworks(), FakeLayers(), FakeVolumes()
        self.store = Store(root / "engine.db", (SCHEMA,))
        self.actions: list[tuple[str, dict[str, str]]] = []
        events = Events(lambda item: self.actions.append((item.event.action, item.event.actor.attributes)))
        self.background = Background("test")
        self.services = Services(
            settings=Settings(data_root=str(root), exec_root=str(exec_root.root)),
            data_root=root,
            exec_root=exec_root,
            registry=Registry(self.store),
            events=events,
            images=cast("Any", None),
            layers=cast("Any", self.layers),
            networks=cast("Any", self.networks),
            volumes=cast("Any", self.volumes),
            shims=self.shims,
            background=self.background,
        )

    async def container(self, name: str = "c", **host: Any) -> Entry:
        definition = Container(
            id=(name.encode().hex() * 64)[:64],
            name=name,
            created_at=1,
            path="true",
            args=[],
            config=Config(image="busybox", labels={"team": "x"}),
            host_config=HostConfig(network_mode="bridge", **host),
            image_id="sha256:0",
            image_reference="busybox",
            chain_id="",
            driver="overlay2",
        )
        entry = Entry(definition, ContainerState())
        self.services.registry.reserve_name(name, entry.id)
        self.services.container_dir(entry.id).mkdir(parents=True)
        await self.services.registry.add(entry)
        return entry

    def names(self) -> list[str]:
        return [action for action, _ in self.actions]

    async def close(self) -> None:
        await self.background.close()
        self.store.close()

    async def reborn(self) -> World:
        """The engine is gone, and another one starts (nothing is said to the shims)."""
        await self.close()
        self.shims.queue = asyncio.Queue()
        return World(self.root, self.shims)

    def entry(self, name: str = "c") -> Entry:
        return self.services.registry.get(name)


def run(test: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine, which is not to take long."""
    return asyncio.run(asyncio.wait_for(test, 120))


async def eventually(condition: Callable[[], bool]) -> None:
    """Until *condition* holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)
