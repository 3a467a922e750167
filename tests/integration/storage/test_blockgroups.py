"""Layers in block groups of their own, on an ext4 of sixteen groups."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.engine.graphdrivers.blockgroups import is_spread, spread
from services.engine.graphdrivers.overlay2 import Overlay2
from tests.harness.loops import loop_mounted
from tests.suites.forked import ForkedHelpers

LAYERS = ["a" * 64, "b" * 64, "c" * 64]


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Path]:
    # Groups of 8 MiB: as many blocks as a block has bits.
    options = ("-O", "^has_journal,^flex_bg", "-b", "1024", "-N", "16384")
    with loop_mounted(tmp_path / "disk", "ext4", 128 << 20, make=options) as mounted:
        yield mounted


@pytest.fixture
def driver(ext4: Path) -> Overlay2:
    driver = Overlay2(ext4 / "data" / "overlay2", ForkedHelpers(), {})
    driver.prepare()
    return driver


@pytest.fixture
def group(ext4: Path) -> Callable[[Path], int]:
    inodes = os.statvfs(ext4).f_files // 16
    return lambda path: (path.stat().st_ino - 1) // inodes


def test_each_layer_has_its_own(driver: Overlay2, ext4: Path, group: Callable[[Path], int]) -> None:
    home = ext4 / "data" / "overlay2"
    for layer in LAYERS:
        asyncio.run(driver.create(layer, ""))
    groups = {group(driver.extraction(layer).directory) for layer in LAYERS}
    assert len(groups) == len(LAYERS) and group(home) not in groups
    # And so have the files that are made there.
    tree = driver.extraction(LAYERS[0]).directory / "etc"
    tree.mkdir()
    (tree / "file").touch()
    assert group(tree / "file") == group(tree.parent)


def test_a_layer_is_not_where_a_deleted_one_was(
    driver: Overlay2, ext4: Path, group: Callable[[Path], int]
) -> None:
    """Always in the same group is wrong; by chance twice in the same is not."""
    groups = set()
    for number in range(30):
        layer = f"{number:064x}"
        asyncio.run(driver.create(layer, ""))
        groups.add(group(driver.extraction(layer).directory))
        driver.discard(layer)
        for home in driver.trash.iterdir():
            shutil.rmtree(home)
    assert len(groups) > 1


def test_only_what_is_extracted_is_spread(driver: Overlay2, ext4: Path) -> None:
    """A container's layer gets few files: another group would only cost its bitmaps."""
    home = ext4 / "data" / "overlay2"
    asyncio.run(driver.create(LAYERS[0], ""))
    asyncio.run(driver.create_read_write(LAYERS[1], LAYERS[0], {}))
    spread_ones = [path for path in (home, home / LAYERS[0], home / LAYERS[1]) if is_spread(path)]
    assert spread_ones == [home / LAYERS[0]]
    assert not is_spread(home / LAYERS[0] / "diff")


def test_other_file_systems_are_left_as_they_are() -> None:
    spread(Path("/proc"))
    with pytest.raises(OSError, match="Inappropriate ioctl"):
        is_spread(Path("/proc"))
