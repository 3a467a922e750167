"""Both graph drivers through the suite, and what only overlay2 has."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from services.engine.graphdrivers import GraphDriver, choose
from services.engine.graphdrivers.overlay2 import Overlay2
from services.engine.graphdrivers.vfs import Vfs
from services.protocol.errors import InvalidParameter, SystemError_
from tests.suites.forked import ForkedHelpers
from tests.suites.graphdriver import GraphDriverSuite
from tests.suites.trees import entry, inside, listing, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")


class TestOverlay2(GraphDriverSuite):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> GraphDriver:
        driver = Overlay2(tmp_path / "overlay2", ForkedHelpers(), {})
        driver.prepare()
        return driver

    def test_125_layers_are_more_than_a_page_of_options_and_mount(
        self, driver: GraphDriver, tmp_path: Path
    ) -> None:
        archives = [tar(entry(f"f{number}", str(number).encode())) for number in range(125)]
        parent = self.stack(driver, tmp_path, *archives)
        options = ",".join(driver.mounts("c" * 64, parent)[0].options)
        assert len(options) > os.sysconf("SC_PAGESIZE")
        assert len(self.look(driver, parent, tmp_path)) == 125

    def test_too_many_layers_are_refused(self, driver: GraphDriver) -> None:
        parent = ""
        for number in range(128):
            asyncio.run(driver.create(f"{number:064x}", parent))
            parent = f"{number:064x}"
        with pytest.raises(SystemError_, match="max depth exceeded"):
            asyncio.run(driver.create("f" * 64, parent))

    def test_dockers_directory_shape(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1")))
        home = tmp_path / "overlay2" / ("c" * 64)
        assert sorted(os.listdir(home)) == ["diff", "link", "lower", "merged", "work"]
        link = (tmp_path / "overlay2" / parent / "link").read_text()
        assert len(link) == 26
        assert (home / "lower").read_text() == f"l/{link}"
        assert os.readlink(tmp_path / "overlay2" / "l" / link) == f"../{parent}/diff"
        data = driver.data("c" * 64, parent)
        assert data["LowerDir"] == str(tmp_path / "overlay2" / parent / "diff")
        assert data["UpperDir"] == str(home / "diff")

    def test_nothing_is_mounted_on_the_host(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1")))
        self.look(driver, parent, tmp_path)
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()

    def test_dangling_links_are_swept(self, driver: GraphDriver, tmp_path: Path) -> None:
        asyncio.run(driver.create("a" * 64, ""))
        os.rename(tmp_path / "overlay2" / ("a" * 64), tmp_path / "elsewhere")
        assert driver.layers() == set()
        assert os.listdir(tmp_path / "overlay2" / "l") == []


class TestVfs(GraphDriverSuite):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> GraphDriver:
        driver = Vfs(tmp_path / "vfs", ForkedHelpers(), {})
        driver.prepare()
        return driver

    def test_copies_keep_links_owners_and_attributes(self, driver: GraphDriver, tmp_path: Path) -> None:
        asyncio.run(driver.create("a" * 64, ""))
        source = tmp_path / "vfs" / "dir" / ("a" * 64)
        (source / "f").write_text("x")
        os.chown(source / "f", 12, 34)
        os.chmod(source / "f", 0o4755)
        os.setxattr(source / "f", "user.mark", b"v")
        os.utime(source / "f", ns=(1_000_000_001, 2_000_000_002))
        os.link(source / "f", source / "g")
        os.mkfifo(source / "p")
        os.mknod(source / "null", 0o020666, os.makedev(1, 3))
        asyncio.run(driver.create_read_write("c" * 64, "a" * 64, {}))
        copy = tmp_path / "vfs" / "dir" / ("c" * 64)
        found = os.stat(copy / "f")
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (12, 34, 0o4755)
        assert found.st_mtime_ns == 2_000_000_002
        assert os.getxattr(copy / "f", "user.mark") == b"v"
        assert found.st_ino == os.stat(copy / "g").st_ino != os.stat(source / "f").st_ino
        assert os.stat(copy / "null").st_rdev == os.makedev(1, 3)


class TestChoose:
    def test_the_stored_driver_wins(self, tmp_path: Path) -> None:
        driver = choose(tmp_path, "vfs", [], ForkedHelpers())
        asyncio.run(driver.create("a" * 64, ""))
        assert choose(tmp_path, "", [], ForkedHelpers()).name == "vfs"

    def test_overlay2_is_the_default(self, tmp_path: Path) -> None:
        assert choose(tmp_path, "", [], ForkedHelpers()).name == "overlay2"

    def test_two_stored_drivers_need_a_word(self, tmp_path: Path) -> None:
        for name in ("vfs", "overlay2"):
            asyncio.run(choose(tmp_path, name, [], ForkedHelpers()).create("a" * 64, ""))
        with pytest.raises(SystemError_, match="several valid graphdrivers: overlay2, vfs"):
            choose(tmp_path, "", [], ForkedHelpers())
        assert choose(tmp_path, "overlay2", [], ForkedHelpers()).name == "overlay2"

    @pytest.mark.parametrize("name", ["aufs", "btrfs", "devicemapper", "zfs", "fuse-overlayfs", "nosuch"])
    def test_others_are_refused_by_name(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InvalidParameter, match=name):
            choose(tmp_path, name, [], ForkedHelpers())

    def test_unknown_options_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidParameter, match="size"):
            choose(tmp_path, "overlay2", ["overlay2.size=1g"], ForkedHelpers())
        with pytest.raises(InvalidParameter, match="not for the driver overlay2"):
            choose(tmp_path, "overlay2", ["dm.fs=ext4"], ForkedHelpers())

    def test_lists_what_it_made(self, tmp_path: Path) -> None:
        driver = choose(tmp_path, "overlay2", [], ForkedHelpers())
        asyncio.run(driver.create("a" * 64, ""))
        assert inside(driver.mounts("a" * 64, ""), tmp_path / "mnt", listing) == {}
