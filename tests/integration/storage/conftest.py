"""Data roots for each graph driver, on a file system that it can work on."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reexec.archive import fuse
from tests.harness.loops import loop_mounted

DRIVERS = ("overlay2", "vfs", "btrfs", "fuse-overlayfs")


@dataclass(frozen=True)
class Home:
    """An empty data root, and the driver that is to use it."""

    driver: str
    root: Path


@pytest.fixture(scope="session")
def btrfs_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with loop_mounted(tmp_path_factory.mktemp("btrfs"), "btrfs", 1 << 30) as mounted:
        yield mounted


@pytest.fixture
def btrfs_root(btrfs_mount: Path) -> Path:
    """A new directory on btrfs."""
    root = btrfs_mount / secrets.token_hex(4)
    root.mkdir()
    return root


@pytest.fixture(params=DRIVERS)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    if request.param == "btrfs":
        return Home("btrfs", request.getfixturevalue("btrfs_root"))
    if request.param == "fuse-overlayfs" and (reason := fuse.missing()):
        pytest.skip(reason)
    root = tmp_path / "root"
    root.mkdir()
    return Home(request.param, root)
