"""The end of the daemon: what runs is stopped, also what is just being started."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import pytest

from services.engine.containers import monitor, start
from services.engine.containers.model import Entry, Status
from services.engine.containers.shutdown import shutdown
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import RestartPolicy
from services.protocol.errors import Unavailable
from tests.unit.lifecycle.fakes import World, eventually, run

pytestmark = pytest.mark.usefixtures("no_documents")


async def _watched(world: World) -> None:
    world.background.spawn(monitor.run(world.services), name="monitor")
    await asyncio.sleep(0)


async def _ended_while_it_starts(world: World, entry: Entry) -> None:
    """The daemon stops when the container's task has been made, and is not started yet."""
    real, made, go_on = world.shims.create, asyncio.Event(), asyncio.Event()

    async def slow(request: pb.CreateTaskRequest) -> pb.CreateTaskResponse:
        answer = await real(request)
        made.set()
        await go_on.wait()
        return answer

    with mock.patch.object(world.shims, "create", slow):
        if entry.state.status is not Status.RESTARTING:
            world.background.spawn(start.start(world.services, entry), name="start")
        await made.wait()
        ending = asyncio.create_task(shutdown(world.services, 60))
        await asyncio.sleep(0)
        go_on.set()
        await ending
    assert not world.shims.all


def test_what_is_just_being_started_is_stopped(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        await _ended_while_it_starts(world, entry)
        assert entry.state.status is Status.EXITED and world.names() == ["start", "kill", "die"]
        await world.close()

    run(test())


def test_what_is_just_being_restarted_is_stopped(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container(restart_policy=RestartPolicy(name="always"))
        await start.start(world.services, entry)
        world.shims.end(entry.id, 1)
        await eventually(lambda: entry.state.status is Status.RESTARTING)
        await _ended_while_it_starts(world, entry)
        assert entry.state.status is Status.EXITED and not entry.state.manually_stopped
        await world.close()

    run(test())


def test_nothing_is_started_any_more(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container(restart_policy=RestartPolicy(name="always"))
        await start.start(world.services, entry)
        await shutdown(world.services, 60)
        assert entry.state.status is Status.EXITED
        with pytest.raises(Unavailable, match="the daemon is stopping"):
            await start.start(world.services, entry)
        assert entry.state.status is Status.EXITED and not world.shims.all
        await world.close()

    run(test())
