"""The engine is gone at some point, another one starts: the records are made true."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import pytest

from services.engine.containers import remove, start, transitions
from services.engine.containers.lifecycle_verbs import Handlers
from services.engine.containers.model import ContainerMount, MountKind, Status
from services.engine.containers.rename import rename
from services.engine.containers.restore import restore
from services.engine.rpc import Context
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import RestartPolicy
from services.protocol.errors import NotFound
from services.protocol.verbs import Ref
from services.protocol.verbs.containers import RenameArgs
from tests.unit.lifecycle.fakes import World, eventually, run

pytestmark = pytest.mark.usefixtures("no_documents")


def test_running_containers_are_adopted(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        await start.start(world.services, entry)
        pid = entry.state.pid
        world = await world.reborn()
        await restore(world.services)
        assert world.entry().state.status is Status.RUNNING and world.entry().state.pid == pid
        assert world.networks.restored == {entry.id: pid} and world.names() == []
        world.shims.end(entry.id, 5)
        await eventually(lambda: world.entry().state.status is Status.EXITED)
        assert world.entry().state.exit_code == 5
        await world.close()

    run(test())


def test_an_exit_while_nobody_looked(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        await start.start(world.services, entry)
        world.shims.end(entry.id, 7)
        at = world.shims.all[entry.id].exited_at
        world = await world.reborn()
        await restore(world.services)
        state = world.entry().state
        assert (state.status, state.exit_code, state.finished_at) == (Status.EXITED, 7, at)
        assert not world.shims.all and world.names() == ["die"]
        await world.close()

    run(test())


def test_a_start_that_was_not_recorded(tmp_path: Path) -> None:
    async def test(exited: bool) -> None:
        world = World(tmp_path)
        entry = await world.container()
        before = entry.state
        await start.start(world.services, entry)
        entry.state = before
        await world.services.registry.save_state(entry)
        if exited:
            world.shims.end(entry.id, 2)
        world = await world.reborn()
        await restore(world.services)
        state = world.entry().state
        if exited:
            assert (state.status, state.exit_code) == (Status.EXITED, 2)
            assert world.names() == ["start", "die"] and not world.shims.all
        else:
            assert state.status is Status.RUNNING and world.names() == ["start"]
            await world.services.shims.delete(entry.id, kill=True)
        await remove.remove(world.services, world.entry(), force=exited) if exited else None
        await world.close()

    run(test(True))
    (tmp_path / "engine.db").unlink()
    (tmp_path / "containers").rename(tmp_path / "old")
    run(test(False))


def test_a_start_that_was_cut_short_leaves_no_addresses(tmp_path: Path) -> None:
    async def test(task: bool) -> None:
        world = World(tmp_path)
        entry = await world.container(f"c{task:d}")
        if task:
            await world.shims.start_shim(pb.StartShimRequest(id=entry.id))
        entry.state = transitions.replace(entry.state, sandbox_id="s", ports={"80/tcp": []})
        await world.services.registry.save(entry)
        world = await world.reborn()
        await restore(world.services)
        state = world.entry(f"c{task:d}").state
        assert (state.status, state.sandbox_id, state.ports) == (Status.CREATED, "", {})
        await world.close()

    run(test(False))
    run(test(True))


def test_a_rename_that_was_not_answered(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await world.container("old")
        request = RenameArgs(ref="old", name="new")
        await rename(world.services, request)
        world = await world.reborn()
        with pytest.raises(NotFound):
            await rename(world.services, request)
        await rename(world.services, request, repeated=True)
        assert world.entry("new").definition.name == "new"
        await world.close()

    run(test())


def test_a_repeated_start_does_not_run_it_twice(tmp_path: Path) -> None:
    async def test(auto_remove: bool) -> None:
        world = World(tmp_path)
        name = f"c{auto_remove:d}"
        entry = await world.container(name, auto_remove=auto_remove)
        await start.start(world.services, entry)
        world.shims.end(entry.id, 2)
        world = await world.reborn()
        await restore(world.services)
        handlers = Handlers(world.services)
        again = Context("r", 2, lambda: asyncio.sleep(0, []))
        await handlers.start(Ref(name), again)
        assert not world.shims.all
        first = Context("r", 1, lambda: asyncio.sleep(0, []))
        if auto_remove:
            with pytest.raises(NotFound):
                await handlers.start(Ref(name), first)
        else:
            await handlers.start(Ref(name), first)
            assert world.entry(name).state.status is Status.RUNNING
        await world.close()

    run(test(True))
    run(test(False))


def test_an_exit_that_was_recorded_and_not_acknowledged(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        await start.start(world.services, entry)
        world.shims.end(entry.id, 7)
        task = world.shims.all[entry.id]
        ending = transitions.Ending(exit_code=7, finished_at=task.exited_at)
        entry.state = transitions.exited(entry.state, ending)
        await world.services.registry.save_state(entry)
        world = await world.reborn()
        await restore(world.services)
        assert world.names() == [] and not world.shims.all
        assert world.entry().state.exit_code == 7
        await world.close()

    run(test())


def test_after_a_reboot(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        plain = await world.container("plain")
        always = await world.container("always", restart_policy=RestartPolicy(name="always"))
        rm = await world.container("rm", auto_remove=True)
        for entry in (plain, always, rm):
            await start.start(world.services, entry)
        world.shims.all.clear()
        world = await world.reborn()
        await restore(world.services)
        assert world.entry("plain").state.exit_code == 255
        await eventually(lambda: world.entry("always").state.status is Status.RUNNING)
        assert world.services.registry.find(rm.id) is None
        await world.close()

    run(test())


def test_tasks_and_directories_of_nobody_go(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        stray = world.services.container_dir("f" * 64)
        stray.mkdir()
        (stray / "volumes").write_text("made-for-it\n")
        world.shims.all["f" * 64] = pb.StateResponse(id="f" * 64, status=pb.RUNNING, pid=3)
        await restore(world.services)
        assert not world.shims.all and not stray.exists()
        assert world.volumes.removed == ["made-for-it"]
        assert world.layers.swept == {entry.id} and world.services.container_dir(entry.id).exists()
        await world.close()

    run(test())


def test_an_interrupted_removal_is_finished(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        entry.definition.mounts = [ContainerMount(kind=MountKind.VOLUME, destination="/v", name="v")]
        await world.services.registry.save_definition(entry)
        entry.state = transitions.removing(entry.state)
        await world.services.registry.save_state(entry)
        world = await world.reborn()
        world.volumes.anonymous = {"v"}
        await restore(world.services)
        assert len(world.services.registry) == 0 and world.volumes.removed == ["v"]
        await world.close()

    run(test())


def test_a_start_cut_short_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        await world.shims.start_shim(pb.StartShimRequest(id=entry.id))
        await world.shims.create(pb.CreateTaskRequest(id=entry.id))
        pid = world.shims.all[entry.id].pid
        world = await world.reborn()
        await restore(world.services)
        await start.start(world.services, world.entry())
        assert world.entry().state.pid == pid
        await world.close()

    run(test())


def test_a_start_cut_short_is_deleted_when_nobody_asks_again(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        await world.shims.start_shim(pb.StartShimRequest(id=entry.id))
        await world.shims.create(pb.CreateTaskRequest(id=entry.id))
        with mock.patch("services.engine.containers.restore.CUT_SHORT", 0.01):
            await restore(world.services)
            await eventually(lambda: not world.shims.all)
        await asyncio.sleep(0)
        await world.close()

    run(test())


def test_policies_are_applied_once_per_daemon(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container(restart_policy=RestartPolicy(name="always"))
        entry.state = transitions.exited(
            transitions.running(entry.state, pid=1, started_at=1, health=None),
            transitions.Ending(exit_code=0, finished_at=2),
        )
        await world.services.registry.save_state(entry)
        world = await world.reborn()
        with mock.patch("services.engine.containers.policies._daemon", return_value="1 2 boot"):
            (world.services.exec_root.root / "policies.applied").write_text("1 2 boot")
            await restore(world.services)
            await asyncio.sleep(0.05)
            assert world.entry().state.status is Status.EXITED
        world = await world.reborn()
        with mock.patch("services.engine.containers.policies._daemon", return_value="9 9 boot"):
            await restore(world.services)
            await eventually(lambda: world.entry().state.status is Status.RUNNING)
        await world.close()

    run(test())
