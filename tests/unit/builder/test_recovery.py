"""What an engine finds of builds that a crash has ended, and what it does not take for one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from reexec.helpers import remove as removing
from services.engine.builder import build as builds
from services.engine.builder import context
from services.engine.builder.build import Builder
from services.engine.containers.create import create
from services.engine.containers.model import Entry
from services.engine.containers.services import Services
from services.engine.images.scratch import Scratch
from services.engine.rpc import Context
from services.protocol.api.containers import CreateRequest
from services.protocol.errors import SystemError_
from services.protocol.verbs.containers import CreateArgs
from tests.unit.containers.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "tmp").mkdir()
    world = World(tmp_path)
    yield world
    world.close()


def builder(world: World) -> Builder:
    services, nothing = world.services, cast("Any", None)
    return Builder(
        services, services.images, services.layers, nothing, nothing, services.background, nothing
    )  # fmt: skip


async def container(world: World, build_id: str, name: str) -> Entry:
    async def no_descriptors() -> list[int]:
        return []

    request = Context(f"build:{build_id}", 1, no_descriptors)
    reply = await create(world.services, CreateArgs(name, CreateRequest(image="busybox")), request)
    return world.services.registry.get(reply.id)


def names(world: World) -> set[str]:
    return {entry.definition.name for entry in world.services.registry}


def test_one_failure_is_that_builds_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp, remove = world.services.data_root / "tmp", builds.remove

    async def refuse(services: Services, entry: Entry, **options: bool) -> None:
        if entry.definition.name == "bad":
            raise SystemError_("it cannot go")
        await remove(services, entry, **options)

    async def work() -> None:
        for build_id, name in (("build-a", "bad"), ("build-a", "other"), ("build-b", "good")):
            (tmp / build_id).mkdir(exist_ok=True)
            await container(world, build_id, name)
        monkeypatch.setattr(builds, "remove", refuse)
        await builder(world).recover()
        # The directory is how the next start knows of it.
        assert names(world) == {"bad"} and [path.name for path in tmp.iterdir()] == ["build-a"]
        monkeypatch.setattr(builds, "remove", remove)
        await builder(world).recover()
        assert not names(world) and not list(tmp.iterdir())

    asyncio.run(work())


def test_a_container_that_was_kept_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp = world.services.data_root / "tmp"

    def killed(path: str) -> None:
        raise KeyboardInterrupt

    async def work() -> None:
        with monkeypatch.context() as patch:
            scratch = context.scratch(tmp)
            directory = await scratch.__aenter__()
            (directory / "file").touch()
            await container(world, directory.name, "kept")
            patch.setattr(context, "remove_in_use", killed)
            with pytest.raises(KeyboardInterrupt):
                context._remove(directory)
        await builder(world).recover()
        assert names(world) == {"kept"} and not list(tmp.iterdir())

    asyncio.run(work())


@pytest.mark.parametrize("kind", ["build", "load"])
def test_a_directory_that_is_written_to_while_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    scratch = Scratch(tmp_path, "load-").directory if kind == "load" else partial(context.scratch, tmp)
    remove, failures = removing.remove, [SystemError_("directory not empty")] * 3

    def race(path: str) -> None:
        if failures:
            raise failures.pop()
        remove(path)

    monkeypatch.setattr(removing, "_PAUSE", 0)
    monkeypatch.setattr(removing, "remove", race)

    async def work() -> None:
        async with scratch() as directory:
            (directory / "file").touch()

    asyncio.run(work())
    assert not failures and not list(tmp.iterdir())
