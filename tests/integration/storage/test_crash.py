"""``kill -9`` in the middle: nothing half-made counts, and the next start removes it."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from tests.harness.groups import kill_group
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import entry, image_archive, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

LAYERS = [tar(*(entry(f"{n}/{i}", os.urandom(2000)) for i in range(300))) for n in range(3)]
ARCHIVE = image_archive([(["big:1"], LAYERS)])


@pytest.mark.parametrize("helper", ["docker-load", "docker-applylayer"])
def test_a_killed_helper_leaves_nothing(tmp_path: Path, helper: str) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            while "error" not in (told := await loaded(s, helper))[-1]:  # it was faster
                await s.images.remove("big:1", force=True, prune=True)
            assert told == [
                {"errorDetail": {"message": f"{helper} was killed"}, "error": f"{helper} was killed"}
            ]
            assert s.names() == []
            assert s.layer_directories() == set()
            assert os.listdir(s.root / "tmp") == ["root"]
            assert (await s.load(ARCHIVE))[-1] == {"stream": "Loaded image: big:1\n"}

    asyncio.run(body())


async def loaded(s: Storage, helper: str) -> list[dict[str, object]]:
    """What is told of a load whose *helper* is killed, unless that ends too soon."""
    load = asyncio.ensure_future(s.load(ARCHIVE))
    if await seen(s, helper, load):
        for pid in s.helpers.pids:
            os.kill(pid, signal.SIGKILL)
    return await load


async def seen(s: Storage, helper: str, load: asyncio.Future[object]) -> bool:
    """As soon as *helper* runs; False if *load* has ended before anybody saw it run."""
    while s.helpers.running()[-1:] != [helper]:
        if load.done():
            return False
        await asyncio.sleep(0.0005)
    return True


def _engine(root: Path, driver: str, ready: int) -> None:
    """Loads and creates for ever, until it is killed."""

    async def body() -> None:
        async with storage(root, driver) as s:
            os.write(ready, b"1")
            number = 0
            while True:
                await s.load(ARCHIVE)
                chain = s.images.resolve("big:1").chain_id
                await s.layers.create(f"{number:064x}", chain, {})
                await s.layers.remove(f"{number:064x}")
                await s.layers.create(f"{number + 1:064x}", chain, {})
                await s.images.remove("big:1", force=True, prune=True)
                number += 2

    asyncio.run(body())


@pytest.mark.parametrize("delay", [0.01, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45])
def test_a_killed_engine_is_made_true_at_the_next_start(tmp_path: Path, delay: float) -> None:
    _kill_and_restart(tmp_path / "root", "overlay2", delay)


@pytest.mark.parametrize("delay", [0.05, 0.3])
def test_a_killed_engine_on_btrfs(btrfs_root: Path, delay: float) -> None:
    _kill_and_restart(btrfs_root, "btrfs", delay)


def _kill_and_restart(root: Path, driver: str, delay: float) -> None:
    reading, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            _engine(root, driver, ready)
        finally:
            os._exit(1)
    os.close(ready)
    assert os.read(reading, 1) == b"1"
    os.close(reading)
    time.sleep(delay)
    kill_group(pid)

    async def check() -> None:
        async with storage(root, driver) as s:
            lineage = [
                layer.cache_id
                for image in s.image_ids()  # one may have no name: not yet, or no longer
                for layer in s.layers.chains.lineage(s.images.resolve(image).chain_id)
            ]
            kept = {name for name in s.layer_directories() if not name.endswith("-init")}
            assert kept == set(lineage)
            assert os.listdir(root / "tmp") == ["root"]
            splits = os.listdir(root / "image" / driver / "layerdb")
            assert {name.removesuffix(".split") for name in splits} == set(lineage)
            # Whatever it was in the middle of can be done now.
            assert (await s.load(ARCHIVE))[-1] == {"stream": "Loaded image: big:1\n"}
            assert len(s.layers.chains.lineage(s.images.resolve("big:1").chain_id)) == 3

    asyncio.run(check())


def test_a_cancelled_load_leaves_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            load = asyncio.ensure_future(s.load(ARCHIVE))
            while not await seen(s, "docker-applylayer", load):
                await s.images.remove("big:1", force=True, prune=True)
                load = asyncio.ensure_future(s.load(ARCHIVE))
            load.cancel()
            with pytest.raises(asyncio.CancelledError):
                await load
            async with asyncio.timeout(90):  # what it has made is removed in the background
                while s.layer_directories() or os.listdir(s.root / "tmp") != ["root"]:
                    await asyncio.sleep(0.01)
            assert s.names() == []
            assert s.layer_directories() == set()
            assert os.listdir(s.root / "tmp") == ["root"]

    asyncio.run(body())


def test_a_reader_of_the_archive_that_never_ends_can_be_killed(tmp_path: Path) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            reading, writing = os.pipe()
            with tempfile.TemporaryFile():
                items = s.images.load(reading, quiet=True, platform="")
                waiting = asyncio.ensure_future(anext(items))
                while not s.helpers.pids:
                    await asyncio.sleep(0.001)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            os.close(writing)
            os.close(reading)
            assert s.helpers.pids == set()

    asyncio.run(body())
