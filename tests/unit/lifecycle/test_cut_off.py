"""A request that a killed engine has cut off: what it held is let go, and what it did is not done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from services.engine.containers import execs, restart, start, stop, transitions, wait
from services.engine.containers.lifecycle_verbs import Handlers
from services.engine.containers.model import ContainerMount, Entry, MountKind, Status
from services.engine.containers.restore import restore
from services.engine.contracts import Sandbox
from services.engine.rpc import Context
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import WaitReply
from services.protocol.api.execs import ExecConfig
from services.protocol.api.networks import EndpointSettings
from services.protocol.errors import Conflict, SystemError_
from services.protocol.verbs import Ref
from services.protocol.verbs.containers import KillArgs, WaitArgs, Waited
from tests.unit.lifecycle.fakes import World, run

AGAIN = Context("r", 2, lambda: asyncio.sleep(0, []))


class _Killed(BaseException):
    """The engine is killed here."""


pytestmark = pytest.mark.usefixtures("no_documents")


async def _running(world: World, **host: Any) -> Entry:
    entry = await world.container(**host)
    await start.start(world.services, entry)
    return entry


@pytest.mark.parametrize("recorded", [False, True])
def test_who_was_paused_for_a_commit_runs_on(tmp_path: Path, recorded: bool) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        if recorded:
            await stop.pause(world.services, entry, for_commit=True)
        else:
            with (
                mock.patch.object(transitions, "paused", side_effect=_Killed),
                pytest.raises(_Killed),
            ):
                await stop.pause(world.services, entry, for_commit=True)
        assert world.shims.all[entry.id].status == pb.PAUSED
        world = await world.reborn()
        await restore(world.services)
        assert world.shims.all[entry.id].status == pb.RUNNING
        assert world.entry().state.status is Status.RUNNING
        await stop.pause(world.services, world.entry())
        world = await world.reborn()
        await restore(world.services)
        assert world.entry().state.status is Status.PAUSED  # by a user, this time
        await world.close()

    run(test())


def test_a_restart_that_is_cut_off_does_not_remove(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world, auto_remove=True)

        async def killed(*_: object, **__: object) -> None:
            world.shims.end(entry.id, 143)
            raise _Killed

        with mock.patch.object(stop, "stop", killed), pytest.raises(_Killed):
            await restart.restart(world.services, entry)
        world = await world.reborn()
        await restore(world.services)
        assert world.entry().state.status is Status.EXITED
        await restart.restart(world.services, world.entry())
        world.shims.end(entry.id, 0)
        world = await world.reborn()
        await restore(world.services)
        assert world.services.registry.find(entry.id) is None
        await world.close()

    run(test())


def test_a_restart_that_fails_spares_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world, auto_remove=True)
        with (
            mock.patch.object(stop, "stop", side_effect=SystemError_("no")),
            pytest.raises(SystemError_),
        ):
            await restart.restart(world.services, entry)
        assert not entry.state.spared
        await world.close()

    run(test())


def test_the_networks_learn_of_a_rename_at_the_next_start(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        world = await world.reborn()
        known = {"bridge": EndpointSettings(dns_names=["new"])}
        world.networks.sandbox = Sandbox(
            sandbox_id="s", sandbox_key="k", endpoints=known, ports={}, requested=known
        )
        await restore(world.services)
        world = await world.reborn()
        assert world.services.registry.get(entry.id).state.endpoints == known
        await world.close()

    run(test())


def test_a_volume_that_fails_stops_neither_the_engine_nor_the_container(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        entry.definition.mounts = [ContainerMount(kind=MountKind.VOLUME, destination="/v", name="v")]
        await world.services.registry.save_definition(entry)
        made = await execs.create(world.services, "c", ExecConfig(cmd=["true"]), "request")
        stray = world.services.container_dir("f" * 64)
        stray.mkdir()
        (stray / "volumes").write_text("busy\n")
        world = await world.reborn()
        world.volumes.failing = SystemError_("device or resource busy")
        await restore(world.services)
        assert world.entry().state.status is Status.RUNNING and not stray.exists()
        assert world.services.execs.find(made.id) is not None
        await world.close()

    run(test())


def test_an_exec_is_made_once(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _running(world)
        config = ExecConfig(cmd=["true"])
        made = await execs.create(world.services, "c", config, "request")
        world = await world.reborn()
        await restore(world.services)
        assert (await execs.create(world.services, "c", config, "request")).id == made.id
        assert (await execs.create(world.services, "c", config, "other")).id != made.id
        assert len(world.entry().runtime.execs) == 2
        await world.close()

    run(test())


def test_who_waits_is_told_of_an_exit_that_was_only_recorded(tmp_path: Path) -> None:
    """Killed between the record and the answer to the one who waits for the next exit."""

    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        world.shims.end(entry.id, 7)
        task = world.shims.all[entry.id]
        entry.state = transitions.exited(
            entry.state, transitions.Ending(exit_code=7, finished_at=task.exited_at)
        )
        await world.services.registry.save_state(entry)
        world = await world.reborn()
        await restore(world.services)
        answers = [item async for item in wait.wait(world.services, WaitArgs("c", wait.NEXT_EXIT), AGAIN)]
        assert answers[-1].result is not None and answers[-1].result.status_code == 7
        await world.close()

    run(test())


def test_who_waits_is_told_of_an_exit_since_he_began(tmp_path: Path) -> None:
    """Killed after the exit was acknowledged and before the answer; an older exit is not his."""

    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        at = entry.state.started_at + 1000
        entry.state = transitions.exited(entry.state, transitions.Ending(exit_code=7, finished_at=at))
        await world.services.registry.save_state(entry)
        world.shims.all.clear()
        world = await world.reborn()
        await restore(world.services)
        args = WaitArgs("c", wait.NEXT_EXIT)

        def waiting(began: int) -> AsyncIterator[Waited]:
            return wait.wait(world.services, args, Context("r", 2, lambda: asyncio.sleep(0, []), began))

        answers = [item async for item in waiting(at - 1)]
        assert answers[-1].result is not None and answers[-1].result.status_code == 7
        later = waiting(at + 1)
        assert (await anext(later)).result is None
        result = asyncio.ensure_future(anext(later))
        await asyncio.sleep(0)
        assert not result.done()
        await start.start(world.services, world.entry())
        world.shims.end(entry.id, 3)
        assert (await result).result == WaitReply(status_code=3)
        await world.close()

    run(test())


def test_a_start_that_was_not_carried_out_is_carried_out_when_it_is_asked_again(tmp_path: Path) -> None:
    """Killed when the exit of the run before was recorded and not acknowledged; its start is not his."""

    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        world.shims.end(entry.id, 7)
        task = world.shims.all[entry.id]
        ending = transitions.Ending(exit_code=7, finished_at=task.exited_at)
        entry.state = transitions.exited(entry.state, ending)
        await world.services.registry.save_state(entry)
        world = await world.reborn()
        await restore(world.services)

        def repeated(began: int) -> Context:
            return Context("r", 2, lambda: asyncio.sleep(0, []), began)

        handlers = Handlers(world.services)
        await handlers.start(Ref("c"), repeated(entry.state.started_at - 1))
        assert world.entry().state.status is Status.EXITED, "that run was what he asked for"
        await handlers.start(Ref("c"), repeated(task.exited_at + 1))
        assert world.entry().state.status is Status.RUNNING
        await world.close()

    run(test())


def test_what_was_done_is_not_refused_when_it_is_asked_again(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        world = await world.reborn()
        await restore(world.services)
        handlers = Handlers(world.services)
        await handlers.pause(Ref("c"), AGAIN)
        await handlers.pause(Ref("c"), AGAIN)
        await handlers.unpause(Ref("c"), AGAIN)
        await handlers.unpause(Ref("c"), AGAIN)
        world.shims.end(entry.id, 137)
        world = await world.reborn()
        await restore(world.services)
        handlers = Handlers(world.services)
        await handlers.kill(KillArgs("c"), AGAIN)
        with pytest.raises(Conflict):
            await handlers.kill(KillArgs("c"), Context("r", 1, lambda: asyncio.sleep(0, [])))
        await world.close()

    run(test())
