"""Start, exit, stop, restart, removal and waiting, on shims of paper."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import pytest

from services.engine.containers import monitor, remove, restart, start, stop, wait
from services.engine.containers.model import ContainerMount, MountKind, Status
from services.engine.rpc import Context
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import RestartPolicy, WaitReply
from services.protocol.errors import (
    Conflict,
    InvalidParameter,
    NotFound,
    NotModified,
    SystemError_,
    Unavailable,
)
from services.protocol.verbs.containers import WaitArgs
from tests.unit.lifecycle.fakes import World, eventually, run

pytestmark = pytest.mark.usefixtures("no_documents")


async def _watched(world: World) -> None:
    world.background.spawn(monitor.run(world.services), name="monitor")
    await asyncio.sleep(0)


async def _wait(world: World, ref: str, condition: str, attempt: int = 1) -> WaitReply | None:
    context = Context("r", attempt, lambda: asyncio.sleep(0, []))
    items = [item async for item in wait.wait(world.services, WaitArgs(ref, condition), context)]
    assert items[0].result is None and items[0].registered
    return items[-1].result


def test_a_whole_life(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        await start.start(world.services, entry)
        assert entry.state.status is Status.RUNNING and entry.id in world.networks.allocated
        with pytest.raises(NotModified):
            await start.start(world.services, entry)
        world.shims.end(entry.id, 3)
        await eventually(lambda: entry.state.status is Status.EXITED and not world.shims.all)
        assert entry.state.exit_code == 3 and not world.networks.allocated
        await remove.remove(world.services, entry)
        assert world.names() == ["start", "die", "destroy"]
        die = world.actions[1][1]
        assert (die["exitCode"], die["name"], die["image"], die["team"]) == ("3", "c", "busybox", "x")
        with pytest.raises(NotFound):
            world.entry()
        assert not world.services.container_dir(entry.id).exists()
        await world.close()

    run(test())


@pytest.mark.parametrize("method", ["start_shim", "create", "start"])
def test_a_failed_start_leaves_nothing(tmp_path: Path, method: str) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        text = 'OCI runtime create failed: exec: "x": not found'
        world.shims.failing[method] = InvalidParameter(text, exit_code=127)
        with pytest.raises(InvalidParameter, match="failed to create shim task: OCI runtime create"):
            await start.start(world.services, entry)
        assert not world.shims.all and not world.networks.allocated
        assert (entry.state.status, entry.state.exit_code) == (Status.CREATED, 127)
        assert entry.state.error.endswith("not found")
        world.shims.failing.clear()
        await start.start(world.services, entry)
        assert entry.state.error == "" and entry.state.status is Status.RUNNING
        await world.close()

    run(test())


def test_a_failed_network_ends_the_shim(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container(auto_remove=True)
        world.networks.failing = SystemError_("no")
        with pytest.raises(SystemError_, match="failed to set up container networking: no"):
            await start.start(world.services, entry)
        assert not world.shims.all and world.names() == ["destroy"]
        await world.close()

    run(test())


def test_a_removal_follows_an_exit_that_could_not_be_acknowledged(tmp_path: Path) -> None:
    """Whoever waits for it would wait for ever."""

    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container(auto_remove=True)
        await start.start(world.services, entry)
        gone = mock.AsyncMock(side_effect=[Unavailable("containerd-shim: Socket closed"), NotFound("gone")])
        with mock.patch.object(world.shims, "delete", gone):
            world.shims.end(entry.id, 0)
            await eventually(lambda: "destroy" in world.names())
        assert gone.await_count == 2
        await world.close()

    run(test())


@pytest.mark.parametrize("method", ["create", "start"])
def test_a_start_outlives_task_services_that_are_killed(tmp_path: Path, method: str) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        lost = Unavailable("containerd-shim: Socket closed")
        dying = mock.AsyncMock(
            side_effect=[lost, lost, lost, mock.DEFAULT], wraps=getattr(world.shims, method)
        )
        with mock.patch.object(world.shims, method, dying):
            await start.start(world.services, entry)
        assert entry.state.status is Status.RUNNING and dying.await_count == 4
        await world.close()

    run(test())


def test_stop_escalates(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        with pytest.raises(NotModified):
            await stop.stop(world.services, entry)
        await start.start(world.services, entry)
        world.shims.deadly = {9: 137}
        await stop.stop(world.services, entry, timeout=0)
        assert [number for _, number in world.shims.signals] == [15, 9]
        assert entry.state.exit_code == 137 and entry.state.manually_stopped
        assert world.names() == ["start", "kill", "kill", "die", "stop"]
        await world.close()

    run(test())


def test_stop_thaws_a_paused_container(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        await start.start(world.services, entry)
        await stop.pause(world.services, entry)
        with pytest.raises(Conflict, match="cannot start a paused container"):
            await start.start(world.services, entry)
        world.shims.deadly = {}
        await stop.send(world.services, entry, 15)
        assert entry.state.status is Status.RUNNING
        assert world.names() == ["start", "pause", "unpause", "kill"]
        await world.close()

    run(test())


def test_kill_has_dockers_words(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        for name, words in (
            ("NOSUCH", "cannot kill container: c: invalid signal: NOSUCH"),
            ("99", "cannot kill container: c: the linux daemon does not support signal 99"),
            ("HUP", f"cannot kill container: c: container {entry.id} is not running"),
        ):
            with pytest.raises((InvalidParameter, Conflict), match=words):
                await stop.kill_request(world.services, "c", name)
        await world.close()

    run(test())


def test_restart_policy_and_giving_it_up(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container(restart_policy=RestartPolicy(name="always"))
        await start.start(world.services, entry)
        world.shims.end(entry.id, 1)
        await eventually(lambda: entry.state.status is Status.RESTARTING)
        await eventually(lambda: entry.state.status is Status.RUNNING)
        assert entry.state.restart_count == 1
        world.shims.end(entry.id, 1)
        await eventually(lambda: entry.state.status is Status.RESTARTING)
        await stop.stop(world.services, entry)
        assert (entry.state.status, entry.state.exit_code) == (Status.EXITED, 1)
        await asyncio.sleep(0.3)
        assert entry.state.status is Status.EXITED
        await start.start(world.services, entry)
        assert entry.state.restart_count == 0
        await stop.stop(world.services, entry)
        assert entry.state.status is Status.EXITED
        await world.close()

    run(test())


def test_restart_of_an_auto_removed_container_keeps_it(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container(auto_remove=True)
        await start.start(world.services, entry)
        await restart.restart(world.services, entry)
        assert world.names() == ["start", "kill", "die", "stop", "start", "restart"]
        await stop.stop(world.services, entry)
        await eventually(lambda: entry.runtime.gone)
        assert world.names()[-1] == "destroy"
        await world.close()

    run(test())


def test_remove_takes_anonymous_volumes_only(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        world.volumes.anonymous = {"a"}
        entry.definition.mounts = [
            ContainerMount(kind=MountKind.VOLUME, destination=f"/{name}", name=name) for name in "ab"
        ]
        await start.start(world.services, entry)
        with pytest.raises(Conflict, match="container is running: stop the container before removing"):
            await remove.remove(world.services, entry)
        await remove.remove(world.services, entry, force=True, volumes=True)
        assert world.volumes.removed == ["a"]
        await world.close()

    run(test())


def test_two_removals_do_not_meet(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        async with entry.runtime.lock:
            first = asyncio.create_task(remove.remove(world.services, entry))
            await asyncio.sleep(0)
            with pytest.raises(Conflict, match="removal of container x is already in progress"):
                await remove.remove(world.services, entry, ref="x")
        await first
        with pytest.raises(SystemError_, match="cannot remove the default link name"):
            await world.container("d")
            await remove.remove_request(world.services, "d", link=True)
        await world.close()

    run(test())


def test_waiting(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container(auto_remove=True)
        with pytest.raises(InvalidParameter, match='invalid condition: "bogus"'):
            await _wait(world, "c", "bogus")
        not_running = await _wait(world, "c", "not-running")
        assert not_running is not None and not_running.status_code == 0
        waits = [asyncio.create_task(_wait(world, "c", kind)) for kind in ("next-exit", "removed")]
        await asyncio.sleep(0)
        await start.start(world.services, entry)
        waits.append(asyncio.create_task(_wait(world, "c", "not-running")))
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in waits)
        world.shims.end(entry.id, 6)
        results = await asyncio.gather(*waits)
        assert [result.status_code for result in results if result is not None] == [6, 6, 6]
        await world.close()

    run(test())


def test_a_repeated_wait_hears_of_what_it_missed(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        await start.start(world.services, entry)
        world.shims.end(entry.id, 4)
        await eventually(lambda: entry.state.status is Status.EXITED)
        result = await _wait(world, "c", "next-exit", attempt=2)
        assert result is not None and result.status_code == 4
        await remove.remove(world.services, entry)
        result = await _wait(world, "c", "removed", attempt=2)
        assert result is not None and result.status_code == 4
        with pytest.raises(NotFound):
            await _wait(world, "c", "removed")
        await world.close()

    run(test())


def test_events_that_come_again_change_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        await start.start(world.services, entry)
        world.shims.all[entry.id].exit_status = 1
        stale = world.shims.exit_event(entry.id)
        stale.exit.pid -= 1
        world.shims.queue.put_nowait(stale)
        await asyncio.sleep(0.05)
        assert entry.state.status is Status.RUNNING and entry.id in world.shims.all
        world.shims.queue.put_nowait(pb.Envelope(id=entry.id, oom=pb.TaskOOM()))
        world.shims.queue.put_nowait(pb.Envelope(id=entry.id, oom=pb.TaskOOM()))
        world.shims.end(entry.id, 137)
        await eventually(lambda: "die" in world.names())  # told once the exit is on record
        assert entry.state.status is Status.EXITED
        assert entry.state.oom_killed and world.names() == ["start", "oom", "die"]
        await world.close()

    run(test())


@pytest.mark.parametrize("recorded", [3, 137])
def test_the_loss_of_a_shim_is_an_exit(tmp_path: Path, recorded: int) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        await start.start(world.services, entry)
        task = world.shims.all[entry.id]
        task.status, task.exit_status = pb.STOPPED, recorded
        world.shims.queue.put_nowait(pb.Envelope(id=entry.id, shim_lost=pb.ShimLost()))
        await eventually(lambda: entry.state.status is Status.EXITED)
        assert entry.state.exit_code == recorded
        await world.close()

    run(test())


def test_the_loss_of_a_shim_of_which_nothing_is_known_is_an_exit(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        await start.start(world.services, entry)
        del world.shims.all[entry.id]
        world.shims.queue.put_nowait(pb.Envelope(id=entry.id, shim_lost=pb.ShimLost()))
        await eventually(lambda: entry.state.status is Status.EXITED)
        assert entry.state.exit_code == 137
        await world.close()

    run(test())


def test_what_is_written_beside_a_shim_while_it_ends_goes_with_it(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _watched(world)
        entry = await world.container()
        await start.start(world.services, entry)
        directory = world.services.exec_root.shim_dir(entry.id)
        (directory / "execs").mkdir()  # by an exec that ends as well
        world.shims.end(entry.id, 0)
        await eventually(lambda: entry.state.status is Status.EXITED and not directory.exists())
        await world.close()

    run(test())


def test_a_dead_shim_is_not_in_the_way_of_a_start(tmp_path: Path) -> None:
    """It was forked for an attach, and its loss comes after the start."""

    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        await world.shims.start_shim(pb.StartShimRequest(id=entry.id))
        world.shims.lost.add(entry.id)
        await start.start(world.services, entry)
        assert entry.state.status is Status.RUNNING
        await world.close()

    run(test())
