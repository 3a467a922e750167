"""A cancelled create or change of a container: whole or nothing, and memory says what the disk says."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from services.engine.containers.model import Container
from services.engine.containers.rename import rename
from services.engine.containers.update import update
from services.protocol.api.containers import UpdateRequest
from services.protocol.verbs.containers import RenameArgs, UpdateArgs
from tests.harness.cancelling import cancelled_everywhere
from tests.unit.containers.world import World, run


def _on_disk(world: World) -> list[Container]:
    rows = world.store.load("SELECT definition FROM containers")
    return [msgspec.msgpack.decode(row[0], type=Container) for row in rows]


def test_a_cancelled_create_leaves_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    body = {"Image": "busybox", "Volumes": {"/data": {}}, "WorkingDir": "/work"}

    async def check() -> int:
        times = 0
        async for cancelled in cancelled_everywhere(lambda: world.create(body, "cc")):
            if not cancelled:
                break
            times += 1
            assert list(world.services.registry) == [] and _on_disk(world) == []
            assert not world.services.registry.name_taken("cc")
            assert world.layers.known == set()
            assert world.volumes.known == {} and world.volumes.held == set()
            containers = tmp_path / "containers"
            assert not containers.exists() or os.listdir(containers) == []
        (entry,) = world.services.registry
        assert [one.id for one in _on_disk(world)] == [entry.id]
        return times

    assert run(check()) >= 1
    world.close()


def test_a_cancelled_rename_is_done_or_not(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def check() -> None:
        entry = await world.made(name="old")

        def other() -> str:
            return "bb" if entry.definition.name != "bb" else "aa"

        async for _ in cancelled_everywhere(lambda: rename(world.services, RenameArgs(entry.id, other()))):
            names = [one.name for one in _on_disk(world)]
            assert names == [entry.definition.name]
            assert [one for one in ("old", "aa", "bb") if world.services.registry.name_taken(one)] == names

    run(check())
    world.close()


def test_a_cancelled_update_is_done_or_not(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def check() -> None:
        entry = await world.made()

        def more() -> UpdateArgs:
            shares = entry.definition.host_config.cpu_shares + 512
            return UpdateArgs(entry.id, UpdateRequest(cpu_shares=shares))

        async for _ in cancelled_everywhere(lambda: update(world.services, more())):
            (definition,) = _on_disk(world)
            assert definition.host_config.cpu_shares == entry.definition.host_config.cpu_shares

    run(check())
    world.close()
