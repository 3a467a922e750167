"""Names of images: in the database before anybody sees them, whoever fails or removes meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from services.engine.images.blobs import Blobs
from services.engine.images.model import SCHEMA
from services.engine.images.references import Reference, parse
from services.engine.images.removal import Remover
from services.engine.images.store import ImageStore
from services.engine.store import Store
from services.protocol.errors import Conflict, NotFound

_NAME = parse("busybox:latest")


class _Layers:
    """Of images without layers."""

    driver_name = "none"
    chains = SimpleNamespace(retain=lambda chain_id: None)

    async def release(self, chain_id: str) -> list[object]:
        return []


class _Images:
    def __init__(self, root: Path) -> None:
        self._gates: list[threading.Event] = []
        self.database = Store(root / "engine.db", (SCHEMA,))
        layers = _Layers()
        self.store = ImageStore(self.database, layers, root)  # type: ignore[arg-type]
        notices = SimpleNamespace(publish=lambda *_: None)
        self.remover = Remover(self.store, layers, notices, lambda: [])  # type: ignore[arg-type]

    async def image(self, author: str = "", parent: str = "") -> str:
        document = {"author": author, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
        return (await self.store.add(msgspec.json.encode(document), parent=parent)).id

    def held(self) -> threading.Event:
        """The database writes nothing more before this event."""
        gate = threading.Event()
        self._gates.append(gate)
        self.database.submit(lambda _: gate.wait() and None)
        return gate

    def close(self) -> None:
        for gate in self._gates:
            gate.set()
        self.database.close()

    def recorded(self) -> dict[str, str]:
        return dict(self.database.load("SELECT name, image_id FROM image_names"))

    def seen(self, *names: Reference) -> dict[str, str]:
        found = {str(name): self.store.named(name) for name in names}
        return {name: image_id for name, image_id in found.items() if image_id is not None}


@pytest.fixture
def images(tmp_path: Path) -> Iterator[_Images]:
    made = _Images(tmp_path)
    try:
        yield made
    finally:
        made.close()


async def _turns() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_name_is_seen_once_it_is_written(images: _Images) -> None:
    async def body() -> None:
        one, other = await images.image("one"), await images.image("other")
        await images.store.tag(_NAME, one)
        gate = images.held()
        tagging = asyncio.ensure_future(images.store.tag(_NAME, other))
        await _turns()
        assert images.seen(_NAME) == {str(_NAME): one}
        tagging.cancel()  # too late: it is queued
        gate.set()
        await asyncio.wait([tagging])
        assert images.seen(_NAME) == images.recorded() == {str(_NAME): other}
        assert images.store.references(one) == []

    asyncio.run(body())


@pytest.mark.parametrize("statement", ["INSERT", "DELETE"])
def test_a_write_that_fails_changes_nothing(images: _Images, statement: str) -> None:
    async def body() -> None:
        one, other = await images.image("one"), await images.image("other")
        await images.store.tag(_NAME, one)
        await images.database.execute(
            f"CREATE TRIGGER full BEFORE {statement} ON image_names BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        with pytest.raises(sqlite3.Error, match="full"):
            if statement == "INSERT":
                await images.store.tag(_NAME, other)
            else:
                await images.store.untag(_NAME, one)
        assert images.seen(_NAME) == images.recorded() == {str(_NAME): one}
        assert images.store.references(one) == [_NAME]

    asyncio.run(body())


def test_a_name_that_is_taken_away_and_given_at_once_is_in_memory_as_on_disk(images: _Images) -> None:
    async def body() -> None:
        one, other = await images.image("one"), await images.image("other")
        await images.store.tag(_NAME, one)
        gate = images.held()
        tasks = [
            asyncio.ensure_future(images.store.tag(_NAME, other)),
            asyncio.ensure_future(images.store.untag(_NAME, one)),
        ]
        await _turns()
        gate.set()
        await asyncio.gather(*tasks)
        assert images.seen(_NAME) == images.recorded() == {str(_NAME): other}

    asyncio.run(body())


def test_an_image_that_is_being_named_is_not_removed_by_its_id(images: _Images) -> None:
    async def body() -> None:
        image = await images.image()
        gate = images.held()
        tagging = asyncio.ensure_future(images.store.tag(_NAME, image))
        await _turns()
        removing = asyncio.ensure_future(images.remover.remove(image))
        await _turns()
        gate.set()
        with pytest.raises(Conflict, match="must be forced"):
            await removing
        await tagging
        assert images.seen(_NAME) == images.recorded() == {str(_NAME): image}

    asyncio.run(body())


def test_a_name_given_while_others_are_taken_away_goes_with_the_image(images: _Images) -> None:
    async def body() -> None:
        image = await images.image()
        for name in ("one", "other"):
            await images.store.tag(parse(f"{name}:latest"), image)
        gate = images.held()
        tagging = asyncio.ensure_future(images.store.tag(_NAME, image))
        await _turns()
        # It begins before the name is seen, and writes after it.
        removing = asyncio.ensure_future(images.remover.remove(image, force=True))
        await _turns()
        gate.set()
        await tagging
        removed = await removing
        assert [item.untagged for item in removed[:-1]] == ["one:latest", "other:latest", "busybox:latest"]
        assert images.seen(_NAME) == images.recorded() == {}

    asyncio.run(body())


def test_an_image_that_is_gone_gets_no_name(images: _Images) -> None:
    async def body() -> None:
        image = await images.image()
        gate = images.held()
        removing = asyncio.ensure_future(images.remover.remove(image))
        await _turns()
        tagging = asyncio.ensure_future(images.store.tag(_NAME, image))
        await _turns()
        gate.set()
        with pytest.raises(NotFound, match="No such image"):
            await tagging
        await removing
        assert images.seen(_NAME) == images.recorded() == {}

    asyncio.run(body())


def test_the_child_of_an_image_that_goes_meanwhile_has_no_parent(
    images: _Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on, write = threading.Event(), threading.Event(), Blobs.write

    def late(blobs: Blobs, data: bytes) -> str:
        writing.set()
        assert go_on.wait(60)
        return write(blobs, data)

    async def body() -> None:
        parent = await images.image()
        monkeypatch.setattr(Blobs, "write", late)
        adding = asyncio.ensure_future(images.image("child", parent))
        await asyncio.to_thread(writing.wait)
        await images.remover.remove(parent)
        go_on.set()
        child = await adding
        assert images.store.existing(child).parent == ""
        assert images.database.load("SELECT id, parent FROM images") == [(child, "")]

    asyncio.run(body())
