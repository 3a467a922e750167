"""overlay2's sizes by project quota; runs in a guest that has a disk with XFS and ``pquota``."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.engine.graphdrivers import GraphDriver
from services.engine.graphdrivers.overlay2 import Overlay2
from services.engine.graphdrivers.projectquota import project_of
from services.engine.graphdrivers.vfs import Vfs
from services.protocol.errors import InvalidParameter
from tests.integration.storage.storage import storage
from tests.suites.forked import ForkedHelpers
from tests.suites.trees import entry, image_archive, inside, tar

XFS = Path(os.environ.get("WHARFD_GUEST_DISK", "/nonexistent"))
MEGABYTE = 1 << 20
FIRST, SECOND, BASE = "c" * 64, "d" * 64, "a" * 64


@pytest.fixture
def root() -> Iterator[Path]:
    path = XFS / secrets.token_hex(4)
    path.mkdir()
    yield path


def driver_on(root: Path, **options: str) -> Overlay2:
    driver = Overlay2(
        root / "overlay2", ForkedHelpers(), {f"overlay2.{key}": value for key, value in options.items()}
    )
    driver.prepare()
    return driver


def written(driver: GraphDriver, layer: str, root: Path, size: int = 8 * MEGABYTE) -> int:
    """Bytes of *size* that a container can write to its root before there is no more space."""

    def fill() -> int:
        done = 0
        with open("/filled", "wb", buffering=0) as file:
            try:
                while done < size:
                    done += file.write(b"x" * MEGABYTE)
            except OSError as error:
                assert error.strerror in ("No space left on device", "Disk quota exceeded")
        return done

    return inside(driver.mounts(layer, BASE), root / "mnt", fill)


def test_a_container_has_its_size_and_others_have_all(root: Path) -> None:
    driver = driver_on(root)
    asyncio.run(driver.create(BASE, ""))
    asyncio.run(driver.create_read_write(FIRST, BASE, {"size": "3m"}))
    asyncio.run(driver.create_read_write(SECOND, BASE, {}))
    assert written(driver, FIRST, root) <= 3 * MEGABYTE
    assert written(driver, SECOND, root) == 8 * MEGABYTE
    home = root / "overlay2"
    assert project_of(home / FIRST) == project_of(home / FIRST / "diff") > 0
    assert project_of(home / SECOND) == project_of(home / BASE) == 0


def test_the_daemons_size_is_for_who_names_none(root: Path) -> None:
    driver = driver_on(root, size="2m", override_kernel_check="true")
    asyncio.run(driver.create(BASE, ""))
    asyncio.run(driver.create_read_write(FIRST, BASE, {}))
    asyncio.run(driver.create_read_write(SECOND, BASE, {"size": "5m"}))
    assert written(driver, FIRST, root) <= 2 * MEGABYTE
    assert 2 * MEGABYTE < written(driver, SECOND, root) <= 5 * MEGABYTE


def test_ids_go_on_and_limits_hold_after_a_restart(root: Path) -> None:
    driver = driver_on(root)
    asyncio.run(driver.create(BASE, ""))
    asyncio.run(driver.create_read_write(FIRST, BASE, {"size": "3m"}))
    again = driver_on(root)
    asyncio.run(again.create_read_write(SECOND, BASE, {"size": "5m"}))
    home = root / "overlay2"
    assert project_of(home / SECOND) > project_of(home / FIRST)
    assert written(again, FIRST, root) <= 3 * MEGABYTE
    assert again.layers() == {BASE, FIRST, SECOND}
    # One that waits to be deleted still has its id, also where nothing is in it.
    again.discard(SECOND)
    third = driver_on(root)
    asyncio.run(third.create_read_write("e" * 64, BASE, {"size": "1m"}))
    (waiting,) = third.trash.iterdir()
    assert project_of(home / ("e" * 64)) > project_of(waiting)


def test_full_copies_have_sizes_too(root: Path) -> None:
    driver = Vfs(root / "vfs", ForkedHelpers(), {"size": "5m"})
    driver.prepare()
    asyncio.run(driver.create(BASE, ""))
    (driver.extraction(BASE).directory / "f").write_bytes(os.urandom(MEGABYTE))
    asyncio.run(driver.create_read_write(FIRST, BASE, {}))
    asyncio.run(driver.create_read_write(SECOND, BASE, {"size": "7m"}))
    assert written(driver, FIRST, root) <= 4 * MEGABYTE
    assert 4 * MEGABYTE < written(driver, SECOND, root) <= 6 * MEGABYTE
    assert driver.layers() == {BASE, FIRST, SECOND}


def test_through_the_layer_manager(root: Path) -> None:
    async def body() -> None:
        async with storage(root, "overlay2") as s:
            await s.load(image_archive([(["img:1"], [tar(entry("f", b"1"))])]))
            chain = s.images.resolve("img:1").chain_id
            await s.layers.create(FIRST, chain, {"size": "4m"})
            with pytest.raises(InvalidParameter, match="Unknown option nosuch"):
                await s.layers.create(SECOND, chain, {"nosuch": "1"})
            with pytest.raises(InvalidParameter, match="invalid size: 'lots'"):
                await s.layers.create(SECOND, chain, {"size": "lots"})
            assert SECOND not in s.layer_directories()

            def fill() -> None:
                Path("/g").write_bytes(b"x" * 5 * MEGABYTE)

            with pytest.raises(AssertionError, match="No space left on device|Disk quota exceeded"):
                inside(s.layers.mounts(FIRST), root / "mnt", fill)
            # A layer made of the container's own directory, by a rename out of its project.
            inside(s.layers.mounts(FIRST), root / "mnt", lambda: Path("/g").write_bytes(b"y" * MEGABYTE))
            layer = await s.layers.take(FIRST)
            await s.layers.remove(FIRST)
            await s.layers.create(SECOND, layer.chain_id, {"size": "2m"})
            seen = inside(s.layers.mounts(SECOND), root / "mnt", lambda: os.stat("/g").st_size)
            assert seen == MEGABYTE
            await s.layers.remove(SECOND)
            await s.layers.release(layer.chain_id)

    asyncio.run(body())
