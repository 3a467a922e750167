"""The task service over shims that die: every wait ends, and what is told then is told once and in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from services.containerd_shim import reclaim, registry, state
from services.containerd_shim.hub import EventHub
from services.containerd_shim.links import ShimDied, ShimLink
from services.containerd_shim.registry import Registry
from services.containerd_shim.state import ShimRecord
from services.containerd_shim.zygote_client import ZygoteClient
from services.protocol import fdpass
from services.protocol import task_pb2 as pb
from services.protocol.errors import NotFound, Unavailable
from services.protocol.paths import ExecRoot
from services.protocol.shim import ShimEvent, TaskAnswer, TaskCall


class Zygote:
    """Forks nothing: *reclaim* is what it does instead of a child."""

    def __init__(self, reclaim: Callable[[Path], None]) -> None:
        self._reclaim = reclaim
        self.asked = 0

    async def fork_shim(self, directory: Path, request: bytes, listener: socket.socket) -> int:
        return 1 << 30

    async def reclaim(self, directory: Path) -> None:
        self.asked += 1
        self._reclaim(directory)


def killed(_directory: Path) -> None:
    """What the zygote says of a child that was killed: that it has ended."""


def unavailable(_directory: Path) -> None:
    raise Unavailable("the zygote does not answer")


class Shim:
    """One that answers nothing: *dies* is called with the first call it gets, then it is dead.

    *early*: it dies before that, and nobody runs between the last it tells and its death.
    """

    def __init__(
        self,
        directory: Path,
        listener: socket.socket,
        record: ShimRecord,
        told: list[pb.Envelope],
        *,
        early: bool = False,
    ) -> None:
        self.directory = directory
        state.save(str(self.directory), record)
        self._listener = listener
        self._early = early
        self._told = [*told, pb.Envelope(id=record.id, synchronised=pb.Synchronised())]
        self._peer: socket.socket | None = None
        self.dies: Callable[[], None] = lambda: None
        #: Called with the number of the first call instead, after which it lives on.
        self.serves: Callable[[int], Coroutine[Any, Any, None]] | None = None

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        self._peer, _ = await loop.sock_accept(self._listener)
        await loop.sock_recv(self._peer, fdpass.MAX_MESSAGE)
        for envelope in self._told:
            fdpass.send(self._peer, ShimEvent(envelope.SerializeToString()))
        if self._early:
            self.die()
            return
        data = await loop.sock_recv(self._peer, fdpass.MAX_MESSAGE)
        call = msgspec.msgpack.decode(data, type=TaskCall)
        if self.serves is not None:
            await self.serves(call.seq)
            return
        self.dies()
        self.die()

    def answer(self, seq: int, response: pb.DeleteResponse) -> None:
        assert self._peer is not None
        fdpass.send(self._peer, TaskAnswer(seq, response.SerializeToString()))

    def die(self) -> None:
        self._listener.close()
        if self._peer is not None:
            self._peer.close()


class ForkingZygote(Zygote):
    """Its shims die as soon as they have told that they are there."""

    forked = 0

    async def fork_shim(self, directory: Path, request: bytes, listener: socket.socket) -> int:
        self.forked += 1
        shim = Shim(
            directory, listener.dup(), ShimRecord(id="c", shim_pid=1 << 30, shim_start=1), [], early=True
        )
        self._serving = asyncio.create_task(shim.serve())
        return 1 << 30


class World:
    def __init__(self, root: Path, zygote: Zygote) -> None:
        self.exec_root = ExecRoot(root / "x")
        self.hub = EventHub()
        self.zygote = zygote
        self.registry = Registry(self.exec_root, cast(ZygoteClient, zygote), self.hub)
        self._shims: list[tuple[Shim, asyncio.Task[None]]] = []

    async def shim(self, record: ShimRecord, told: list[pb.Envelope], *, early: bool = False) -> Shim:
        directory = self.exec_root.shim_dir(record.id)
        directory.mkdir(parents=True)
        listener = fdpass.listen(self.exec_root.shim_socket(record.id))
        shim = Shim(directory, listener, record, told, early=early)
        self._shims.append((shim, asyncio.create_task(shim.serve())))
        await self.registry.recover()
        return shim

    async def call(self, method: str, request: Any, response: Any) -> Any:
        return response.FromString(await self.registry.call(request.id, method, request.SerializeToString()))

    async def close(self) -> None:
        self.registry.close()
        for shim, task in self._shims:
            task.cancel()
            shim.die()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def running(pid: int = 1 << 30, **fields: Any) -> ShimRecord:
    began = state.start_time(pid)
    return ShimRecord(
        id="c", shim_pid=1 << 30, shim_start=1, status="running", pid=pid, pid_start=began, **fields
    )


def started(at: int) -> pb.Envelope:
    return pb.Envelope(id="c", timestamp=at, start=pb.TaskStart(pid=1 << 30))


@pytest.mark.parametrize("outcome", [killed, unavailable])
def test_whoever_waits_hears_of_a_loss_that_nobody_could_clear_up(
    tmp_path: Path, outcome: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        world = World(tmp_path, Zygote(outcome))
        monkeypatch.setattr(registry, "_reclaim_here", unavailable)
        events = world.hub.subscribe(0)
        assert (await anext(events)).HasField("synchronised")
        shim = await world.shim(running(), [started(at=time.time_ns() + 10**15)])
        told = await anext(events)
        waited = asyncio.create_task(world.call("Wait", pb.WaitRequest(id="c"), pb.WaitResponse))
        assert (await waited).exit_status == 137
        lost, ended = await anext(events), await anext(events)
        assert lost.HasField("shim_lost") and ended.exit.exit_status == 137
        assert told.timestamp < lost.timestamp < ended.timestamp
        assert ended.exit.exited_at > 0
        task = await world.call("State", pb.StateRequest(id="c"), pb.StateResponse)
        assert (task.status, task.exit_status) == (pb.STOPPED, 137)
        await world.call("Delete", pb.DeleteRequest(id="c"), pb.DeleteResponse)
        assert not shim.directory.exists()
        await events.aclose()  # type: ignore[attr-defined]
        await world.close()

    run(test())


def test_what_the_zygote_cannot_clear_up_the_service_does(tmp_path: Path) -> None:
    async def test(pid: int) -> None:
        world = World(tmp_path, Zygote(killed))
        await world.shim(running(pid), [])
        answer = await world.call("Wait", pb.WaitRequest(id="c"), pb.WaitResponse)
        assert answer.exit_status == 137
        assert world.zygote.asked > 1
        record = state.load(world.exec_root.shim_dir("c"))
        assert record is not None and record.lost
        await world.close()

    with subprocess.Popen(["sleep", "1000"]) as init:
        run(test(init.pid))
        assert init.wait(60) == -signal.SIGKILL


def test_an_exit_on_record_is_told_after_what_the_shim_told_last(tmp_path: Path) -> None:
    """The exit was recorded while its output was still being read; an exec ended meanwhile."""

    async def test() -> None:
        world = World(tmp_path, Zygote(reclaim.reclaim))
        shim = await world.shim(running(), [started(at=1), started(at=time.time_ns())])

        def dies() -> None:
            record = running(exit_status=3, exited_at=2)
            record.status = "stopped"
            state.save(str(shim.directory), record)

        shim.dies = dies
        events = world.hub.subscribe(0)
        assert [(await anext(events)).WhichOneof("event") for _ in range(3)][:2] == ["start", "start"]
        answer = await world.call("Wait", pb.WaitRequest(id="c"), pb.WaitResponse)
        assert (answer.exit_status, answer.exited_at) == (3, 2)
        assert (await anext(events)).HasField("shim_lost")
        ended = await anext(events)
        assert (ended.exit.exit_status, ended.exit.exited_at) == (3, 2)
        await events.aclose()  # type: ignore[attr-defined]
        await world.close()

    run(test())


@pytest.mark.parametrize("removed", [False, True])
def test_a_shim_that_dies_over_its_deletion_is_deleted(tmp_path: Path, removed: bool) -> None:
    async def test() -> None:
        world = World(tmp_path, Zygote(reclaim.reclaim))
        shim = await world.shim(running(), [])
        if removed:
            shim.dies = lambda: os.unlink(shim.directory / state.STATE_FILE)
        await world.call("Delete", pb.DeleteRequest(id="c"), pb.DeleteResponse)
        assert not shim.directory.exists()
        with pytest.raises(NotFound):
            await world.call("State", pb.StateRequest(id="c"), pb.StateResponse)
        await world.close()

    run(test())


def test_a_deletion_whose_answer_nobody_awaits_is_one(tmp_path: Path) -> None:
    """The engine that asked has been killed; the next one starts the container while the shim still ends."""

    async def test() -> None:
        zygote = ForkingZygote(reclaim.reclaim)
        world = World(tmp_path, zygote)
        shim = await world.shim(running(), [started(at=1)])
        asked, answered = asyncio.Event(), asyncio.Event()

        async def delete(seq: int) -> None:
            asked.set()
            await answered.wait()
            os.unlink(shim.directory / state.STATE_FILE)
            shim.answer(seq, pb.DeleteResponse())

        shim.serves = delete
        call = asyncio.create_task(world.call("Delete", pb.DeleteRequest(id="c"), pb.DeleteResponse))
        await asked.wait()
        call.cancel()
        await asyncio.wait([call])
        answered.set()
        while not world.registry._links["c"].deleted:
            await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="the shim of container c did not start"):
            await world.registry.start(pb.StartShimRequest(id="c"))
        assert zygote.forked == 1
        events = world.hub.subscribe(0)
        assert (await anext(events)).HasField("synchronised")
        await events.aclose()  # type: ignore[attr-defined]
        await world.close()

    run(test())


def test_a_shim_that_does_not_come_up_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path, Zygote(killed))
        with pytest.raises(Unavailable, match="the shim of container c did not start: no reason is known"):
            await world.registry.start(pb.StartShimRequest(id="c"))
        assert list(world.exec_root.shims.iterdir()) == []
        await world.close()

    run(test())


def test_a_shim_that_dies_as_soon_as_it_is_found_is_lost(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path, Zygote(reclaim.reclaim))
        events = world.hub.subscribe(0)
        assert (await anext(events)).HasField("synchronised")
        await world.shim(running(), [started(at=1)], early=True)
        answer = await world.call("Wait", pb.WaitRequest(id="c"), pb.WaitResponse)
        assert answer.exit_status == 137
        told = [(await anext(events)).WhichOneof("event") for _ in range(3)]
        assert told == ["start", "shim_lost", "exit"]
        await events.aclose()  # type: ignore[attr-defined]
        await world.close()

    run(test())


def test_a_shim_that_dies_as_soon_as_it_is_forked_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path, ForkingZygote(reclaim.reclaim))
        for _ in range(2):
            with pytest.raises(Unavailable, match="the shim of container c did not start"):
                await world.registry.start(pb.StartShimRequest(id="c"))
            assert list(world.exec_root.shims.iterdir()) == []
        with pytest.raises(NotFound):
            await world.call("State", pb.StateRequest(id="c"), pb.StateResponse)
        await world.close()

    run(test())


def test_a_dead_shim_is_not_called(tmp_path: Path) -> None:
    async def test() -> None:
        directory, path = tmp_path / "c", tmp_path / "shim.sock"
        directory.mkdir()
        shim = Shim(directory, fdpass.listen(path), running(), [], early=True)
        lost = asyncio.Event()
        link = ShimLink("c", path, lambda _envelope: None, lambda _link: lost.set())
        await shim.serve()
        await lost.wait()
        for _ in range(2):
            with pytest.raises(ShimDied, match="the shim of container c has died"):
                await link.call("State", b"")
            with pytest.raises(ShimDied):
                await link.synchronised()

    run(test())


def test_what_was_left_by_a_shim_that_did_not_come_up_is_removed(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path, Zygote(killed))
        directory = world.exec_root.shim_dir("c")
        directory.mkdir(parents=True)
        fdpass.listen(world.exec_root.shim_socket("c")).close()
        (directory / "shim.log").touch()
        await world.registry.recover()
        assert list(world.exec_root.shims.iterdir()) == []
        await world.close()

    run(test())


def test_what_a_dead_shim_was_asked_to_do_is_not_done(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path, Zygote(reclaim.reclaim))
        await world.shim(running(), [])
        with pytest.raises(Unavailable, match="the shim of container c has died"):
            await world.call("Pause", pb.PauseRequest(id="c"), pb.Empty)
        await world.close()

    run(test())


def test_a_directory_has_one_shim(tmp_path: Path) -> None:
    claim = state.claim(str(tmp_path))
    assert claim >= 0
    assert state.claim(str(tmp_path)) == -1
    os.close(claim)
    again = state.claim(str(tmp_path))
    assert again >= 0
    os.close(again)
