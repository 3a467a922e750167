"""Sizes on overlay2 and vfs: refused where there are no project quotas, kept where there are."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.engine.graphdrivers import choose
from services.protocol.errors import InvalidParameter, SystemError_
from tests.harness import guest
from tests.harness.loops import loop_mounted
from tests.suites.forked import ForkedHelpers

NO_QUOTA = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"


def test_project_quotas_in_a_guest(tmp_path: Path) -> None:
    guest.run("tests/guest/project_quota.py", tmp_path, "xfs", "pquota")


def test_a_size_without_xfs_is_refused(tmp_path: Path) -> None:
    driver = choose(tmp_path, "overlay2", [], ForkedHelpers())
    with pytest.raises(InvalidParameter, match=NO_QUOTA):
        asyncio.run(driver.create_read_write("c" * 64, "", {"size": "1g"}))
    assert driver.layers() == set()
    text = "Storage Option overlay2.size only supported for backingFS XFS. Found"
    with pytest.raises(SystemError_, match=f"^error initializing graphdriver: {text}"):
        choose(tmp_path, "overlay2", ["overlay2.size=1g"], ForkedHelpers())


def test_a_size_of_a_copy_without_quotas_is_refused(tmp_path: Path) -> None:
    text = "Filesystem does not support, or has not enabled quotas"
    driver = choose(tmp_path, "vfs", [], ForkedHelpers())
    with pytest.raises(InvalidParameter, match=f"^{text}$"):
        asyncio.run(driver.create_read_write("c" * 64, "", {"size": "1g"}))
    with pytest.raises(SystemError_, match=f"^error initializing graphdriver: {text}: vfs$"):
        choose(tmp_path, "vfs", ["size=1g"], ForkedHelpers())


def test_a_size_on_xfs_without_quotas_is_refused(tmp_path: Path) -> None:
    with loop_mounted(tmp_path / "disk", "xfs", 400 << 20) as mounted:
        driver = choose(mounted, "", [], ForkedHelpers())
        assert driver.status()[:2] == [("Backing Filesystem", "xfs"), ("Supports d_type", "true")]
        with pytest.raises(InvalidParameter, match=NO_QUOTA):
            asyncio.run(driver.create_read_write("c" * 64, "", {"size": "1g"}))
        assert driver.layers() == set()
        text = "Storage option overlay2.size not supported. Filesystem does not support Project Quota: "
        with pytest.raises(SystemError_, match=text):
            choose(mounted, "overlay2", ["overlay2.size=1g"], ForkedHelpers())
