"""Commit, and what may happen to the container meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest

from services.engine.containers import commit, start, stop
from services.engine.containers.model import Entry, Status
from services.protocol.errors import Conflict
from services.protocol.verbs.containers import CommitArgs
from tests.unit.lifecycle.fakes import World, run


@pytest.fixture(autouse=True)
def no_configuration(no_documents: None) -> Iterator[None]:
    with mock.patch.object(commit, "merge_image_config"):
        yield


async def _committed(world: World, entry: Entry, meanwhile: Callable[[], Awaitable[None]]) -> None:
    async def made(*_: object) -> mock.Mock:
        await meanwhile()
        return mock.Mock(id="sha256:1", name="")

    images = mock.Mock(commit=made)
    world.services.images = cast("Any", images)
    assert await commit.commit(world.services, CommitArgs(ref=entry.id, pause=True)) == "sha256:1"


def test_a_container_that_cannot_be_paused_is_committed_all_the_same(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        await start.start(world.services, entry)

        async def meanwhile() -> None:
            assert entry.state.status is Status.RUNNING

        with mock.patch.object(world.shims, "pause", side_effect=Conflict("container not running")):
            await _committed(world, entry, meanwhile)
        assert "unpause" not in world.names()
        await stop.pause(world.services, entry)
        assert not entry.state.held_for_commit
        await world.close()

    run(test())


def test_a_container_is_paused_while_it_is_committed_and_may_be_resumed_by_others(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        await start.start(world.services, entry)

        async def paused() -> None:
            assert entry.state.status is Status.PAUSED

        await _committed(world, entry, paused)
        assert entry.state.status is Status.RUNNING

        async def resumed() -> None:
            await stop.unpause(world.services, entry)

        await _committed(world, entry, resumed)
        assert world.names().count("unpause") == 2
        await world.close()

    run(test())
