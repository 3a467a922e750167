"""``--platform`` of what is here already, and the events of images."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from services.protocol.errors import NotFound, SystemError_
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import entry, image_archive, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

LAYER = tar(entry("f", b"hi\n"))
ARCHIVE = image_archive([(["one:1"], [LAYER])])


def run(tmp_path: Path, test: Callable[[Storage], Awaitable[None]]) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as made:
            await test(made)

    asyncio.run(body())


async def load(s: Storage, archive: bytes, platform: str) -> list[dict[str, object]]:
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        items = s.images.load(file.fileno(), quiet=True, platform=platform)
        return [msgspec.json.decode(item) async for item in items]


def test_platforms(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        assert await load(s, ARCHIVE, "linux/arm64") == [{}]  # as dockerd says nothing
        assert s.names() == []
        # An image that does not say its variant is of every variant.
        assert await load(s, ARCHIVE, "linux/amd64/v2") == [{"stream": "Loaded image: one:1\n"}]
        for ask in (s.images.inspect, s.images.history):
            assert ask("one:1", "linux/amd64")
            with pytest.raises(NotFound) as caught:
                ask("one:1", "linux/arm/v7")
            assert str(caught.value) == (
                "image with reference one:1 was found but its platform (linux/amd64) "
                "does not match the specified platform (linux/arm/v7)"
            )
        s.images.save(["one:1"], "linux/amd64")
        with pytest.raises(SystemError_, match="^no suitable export target found for platform linux/arm64$"):
            s.images.save(["one:1"], "linux/arm64")

    run(tmp_path, test)


def test_another_system(tmp_path: Path) -> None:
    config = b'{"os":"windows","rootfs":{"type":"layers","diff_ids":[]}}'
    manifest = b'[{"Config":"c.json","RepoTags":["win:1"],"Layers":[]}]'

    async def test(s: Storage) -> None:
        told = await s.load(tar(entry("c.json", config), entry("manifest.json", manifest)))
        assert told[-1]["error"] == "cannot load windows image on linux"
        assert s.names() == []

    run(tmp_path, test)


def test_events(tmp_path: Path) -> None:
    """Names are those of dockerd: the image's id, but for ``tag``."""

    async def test(s: Storage) -> None:
        await s.load(ARCHIVE)
        one = s.images.resolve("one:1").id
        await s.images.tag("one:1", "two", "2")
        s.images.save(["one:1"])
        imported = await s.import_(LAYER, repo="imp")
        await s.images.remove("two:2", force=False, prune=True)
        await s.images.remove("one:1", force=False, prune=True)
        await s.images.prune({"dangling": ["false"]})
        assert [(action, name) for _, action, name in s.published] == [
            ("load", one),
            ("tag", "two:2"),
            ("save", one),
            ("tag", "imp:latest"),
            ("import", imported),
            ("untag", one),
            ("untag", one),
            ("delete", one),
            ("untag", imported),
            ("delete", imported),
            ("prune", ""),
        ]

    run(tmp_path, test)
