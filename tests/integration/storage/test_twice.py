"""Archives that bring a path more than once: every layer is saved with its digest all the same."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.integration.storage.storage import Storage, storage
from tests.integration.storage.test_save import contents, save
from tests.suites.trees import digest, directory, entry, hardlink, image_archive, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

LAYERS = {
    "a file": tar(entry("f", b"first" * 999), entry("g", b"between"), entry("f", b"second")),
    "three times": tar(entry("f", b"1"), entry("f", b"22"), entry("f", b"333")),
    "the same content": tar(entry("f", b"1"), entry("f", b"1")),
    "a directory of files": tar(
        directory("d"), directory("d/e"), entry("d/e/f", b"deep"), entry("d/g", b"flat"), entry("d", b"file")
    ),
    "through a link": tar(directory("d"), entry("d/f", b"1"), symlink("l", "d"), entry("l/f", b"2")),
    "the link itself": tar(
        directory("d"), symlink("l", "d"), entry("l/f", b"through"), directory("l"), entry("l/f", b"direct")
    ),
    "a dangling link": tar(symlink("l", "nowhere"), entry("l/f", b"1"), symlink("l", "d"), entry("l", b"2")),
    "the target of a link": tar(entry("f", b"first"), hardlink("h", "f"), entry("f", b"second")),
    "a deleted file": tar(entry("d/f", b"gone"), entry("d/.wh.f"), entry("d/g", b"there")),
    "a deleted directory": tar(entry("d/e/f", b"gone"), entry(".wh.d"), entry("d", b"file")),
    "a file as a parent": tar(entry("p", b"file"), entry("p/f", b"child")),
}


def layerdb(s: Storage) -> list[str]:
    return sorted(os.listdir(s.root / "image" / s.layers.driver_name / "layerdb"))


@pytest.mark.parametrize("driver", ["overlay2", "vfs"])
@pytest.mark.parametrize("kind", LAYERS)
def test_what_was_replaced_is_saved(tmp_path: Path, kind: str, driver: str) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root", driver) as s:
            layers = [tar(entry("below", b"0")), LAYERS[kind]]
            answer = await s.load(image_archive([(["a:1"], layers)]))
            assert answer == [{"stream": "Loaded image: a:1\n"}]
            files = contents(await save(s, "a:1"))
            for layer in layers:
                assert files["blobs/sha256/" + digest(layer)[7:]] == layer
        async with storage(tmp_path / "root", driver) as s:  # after a restart as well
            assert contents(await save(s, "a:1"))["blobs/sha256/" + digest(LAYERS[kind])[7:]] == LAYERS[kind]
            await s.images.remove("a:1", force=False, prune=True)
            assert layerdb(s) == []

    asyncio.run(body())


def test_the_sweep_takes_what_belongs_to_no_layer(tmp_path: Path) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            await s.load(image_archive([(["a:1"], [LAYERS["a file"]])]))
            there = layerdb(s)
            assert [name.partition(".")[2] for name in there] == ["lost", "split"]
            stray = s.root / "image/overlay2/layerdb" / ("5" * 64 + ".lost")
            stray.mkdir()
            (stray / "0").write_text("content")
        async with storage(tmp_path / "root") as s:
            assert layerdb(s) == there

    asyncio.run(body())
