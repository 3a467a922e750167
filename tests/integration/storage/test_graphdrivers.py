"""Each graph driver through the suite, and what only one of them has."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from pathlib import Path

import pytest

from reexec import btrfs
from reexec.archive import fuse
from services.engine.graphdrivers import GraphDriver, choose
from services.engine.graphdrivers.btrfs import Btrfs
from services.engine.graphdrivers.fuse_overlayfs import FuseOverlayfs
from services.engine.graphdrivers.overlay2 import Overlay2
from services.engine.graphdrivers.vfs import Vfs
from services.protocol.errors import InvalidParameter, SystemError_
from tests.harness.loops import loop_mounted
from tests.integration.storage.storage import storage
from tests.suites.forked import ForkedHelpers
from tests.suites.graphdriver import GraphDriverSuite
from tests.suites.trees import entry, image_archive, inside, listing, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")


class StackedSuite(GraphDriverSuite):
    def check_home(self, driver: GraphDriver) -> None:
        home = driver.trash.parent
        links = {os.readlink(home / "l" / name) for name in os.listdir(home / "l")}
        assert links == {f"../{layer}/diff" for layer in driver.layers()}
        assert len(os.listdir(home / "l")) == len(links)
        for layer in driver.layers():
            short = (home / layer / "link").read_text()
            assert os.readlink(home / "l" / short) == f"../{layer}/diff"

    def test_a_layer_that_has_lost_its_short_name_goes_with_it(
        self, driver: GraphDriver, tmp_path: Path
    ) -> None:
        self.stack(driver, tmp_path, tar(entry("a", b"1")))
        for number, lose in enumerate((Path.unlink, lambda path: path.write_text(""))):
            layer = f"{number:064x}"
            asyncio.run(driver.create(layer, ""))
            lose(driver.trash.parent / layer / "link")
            driver.discard(layer)
            self.check_home(driver)


class TestOverlay2(StackedSuite):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> GraphDriver:
        driver = Overlay2(tmp_path / "overlay2", ForkedHelpers(), {})
        driver.prepare()
        return driver

    def test_125_layers_are_more_than_a_page_of_options(self, driver: GraphDriver) -> None:
        parent = ""
        for number in range(125):
            asyncio.run(driver.create(f"{number:064x}", parent))
            parent = f"{number:064x}"
        options = ",".join(driver.mounts("c" * 64, parent)[0].options)
        assert len(options) > os.sysconf("SC_PAGESIZE")

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


@pytest.mark.skipif(bool(fuse.missing()), reason="needs fuse-overlayfs and /dev/fuse")
class TestFuseOverlayfs(StackedSuite):
    unknown_option = "--storage-opt is not supported"

    @pytest.fixture
    def driver(self, tmp_path: Path) -> GraphDriver:
        driver = FuseOverlayfs(tmp_path / "fuse-overlayfs", ForkedHelpers(), {})
        driver.prepare()
        return driver


class TestVfs(GraphDriverSuite):
    unknown_option = "Storage opt nosuch not supported"
    depth = 20

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


class TestBtrfs(GraphDriverSuite):
    @pytest.fixture
    def driver(self, btrfs_root: Path) -> GraphDriver:
        driver = Btrfs(btrfs_root / "btrfs", ForkedHelpers(), {})
        driver.prepare()
        return driver

    def test_layers_are_subvolumes_that_share_their_data(self, driver: Btrfs, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("big", b"x" * 4_000_000)))
        for layer in (parent, "c" * 64):
            assert btrfs.is_subvolume(str(driver.extraction(layer).directory))
        assert driver.data("c" * 64, parent) == {}
        assert driver.status() == [("Btrfs", "")]

    def test_subvolumes_made_inside_a_container_go_with_it(self, driver: Btrfs, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1")))
        top = driver.extraction("c" * 64).directory
        btrfs.create(str(top / "one"))
        (top / "one" / "deep").mkdir()
        for number in range(300):  # more than one search returns
            btrfs.create(str(top / "one" / "deep" / f"n{number}"))
        (top / "one" / "deep" / "n1" / "f").write_text("x")
        btrfs.snapshot(str(top / "one"), str(top / "two"))
        for path in (top / "one" / "deep" / "n1", top / "one", top):  # as their owner may
            subprocess.run(["btrfs", "property", "set", str(path), "ro", "true"], check=True)
        driver.discard("c" * 64)
        self.empty_trash(driver)
        assert os.listdir(driver.trash) == []
        assert driver.layers() == {parent}

    def test_read_only_subvolumes_in_a_directory_go_with_it(self, btrfs_root: Path) -> None:
        """As a container can leave them in a volume."""
        inner = btrfs_root / "volume" / "d" / "s"
        inner.parent.mkdir(parents=True)
        btrfs.create(str(inner))
        (inner / "d").mkdir()
        (inner / "d" / "f").write_text("x")
        subprocess.run(["btrfs", "property", "set", str(inner), "ro", "true"], check=True)
        asyncio.run(ForkedHelpers().run(["docker-remove", str(btrfs_root / "volume")]))
        assert os.listdir(btrfs_root) == []

    def test_a_size_limits_what_a_container_sees(self, driver: Btrfs, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1" * 100_000)))
        asyncio.run(driver.create_read_write("d" * 64, parent, {"Size": "4m"}))
        assert self.written(driver, "d" * 64, 8_000_000) < 4 << 20
        assert self.written(driver, "c" * 64, 8_000_000) == 8_000_000
        assert (driver.trash.parent / "quotas" / ("d" * 64)).read_text() == str(4 << 20)

    def test_a_limit_holds_after_quotas_were_off(self, driver: Btrfs, tmp_path: Path) -> None:
        asyncio.run(driver.create_read_write("d" * 64, "", {"size": "4m"}))
        home = driver.trash.parent
        for command in ("disable", "enable"):
            subprocess.run(["btrfs", "quota", command, str(home)], check=True, capture_output=True)
        # Until all is counted, limits hold for what is written and not what is there.
        subprocess.run(["btrfs", "quota", "rescan", "-W", str(home)], check=True, capture_output=True)
        again = Btrfs(home, ForkedHelpers(), {})
        again.prepare()
        assert self.written(again, "d" * 64, 8_000_000) < 4 << 20
        again.discard("d" * 64)
        assert os.listdir(home / "quotas") == []

    @staticmethod
    def written(driver: Btrfs, layer: str, size: int) -> int:
        """Bytes of *size* that a layer takes before its quota is exceeded."""
        done = 0
        with (driver.extraction(layer).directory / "filled").open("wb", buffering=0) as file:
            try:
                while done < size:
                    done += file.write(os.urandom(500_000))
                    os.fsync(file.fileno())
            except OSError as error:
                assert error.errno == errno.EDQUOT
        return done

    def test_sizes_are_checked(self, btrfs_root: Path) -> None:
        driver = Btrfs(btrfs_root / "btrfs", ForkedHelpers(), {"btrfs.min_space": "1g"})
        driver.prepare()
        for size, text in (
            ("10m", "btrfs: storage size cannot be less than 1.074GB"),
            ("0", "btrfs: invalid storage size: 0B"),
            ("much", "invalid size: 'much'"),
        ):
            with pytest.raises(InvalidParameter, match=text):
                asyncio.run(driver.create_read_write("d" * 64, "", {"size": size}))
        assert driver.layers() == set()

    def test_a_cancelled_create_can_be_cleaned_up(self, driver: Btrfs) -> None:
        async def cancel() -> None:
            task = asyncio.ensure_future(driver.create("a" * 64, ""))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            driver.discard("a" * 64)

        asyncio.run(cancel())
        assert driver.layers() == set()


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
        text = "several valid graphdrivers: overlay2, vfs; cleanup or explicitly choose storage driver"
        with pytest.raises(SystemError_, match=text):
            choose(tmp_path, "", [], ForkedHelpers())
        assert choose(tmp_path, "overlay2", [], ForkedHelpers()).name == "overlay2"

    def test_a_stored_driver_that_fails_is_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "btrfs" / "subvolumes" / ("a" * 64)).mkdir(parents=True)
        with pytest.raises(SystemError_, match="prerequisites for driver not satisfied"):
            choose(tmp_path, "", [], ForkedHelpers())

    def test_images_of_another_driver_are_not_passed_over(self, tmp_path: Path) -> None:
        async def load() -> None:
            async with storage(tmp_path, "vfs") as made:
                await made.load(image_archive([(["a:1"], [tar(entry("f", b"1"))])]))

        asyncio.run(load())
        with pytest.raises(SystemError_, match="are those of the storage driver vfs: choose that, or"):
            choose(tmp_path, "overlay2", [], ForkedHelpers())
        assert choose(tmp_path, "", [], ForkedHelpers()).name == "vfs"

    @pytest.mark.parametrize("name", ["aufs", "devicemapper", "overlay"])
    def test_removed_drivers_are_refused_with_dockers_text(self, tmp_path: Path, name: str) -> None:
        text = f"the {name} storage-driver has been deprecated and removed; visit"
        with pytest.raises(SystemError_, match=f"{text}.*: {name}$"):
            choose(tmp_path, name, [], ForkedHelpers())

    def test_drivers_that_cannot_work_say_why(self, tmp_path: Path) -> None:
        for name, text in (
            ("btrfs", r"prerequisites for driver not satisfied \(wrong filesystem\?\): btrfs \(.* btrfs"),
            ("zfs", r"prerequisites for driver not satisfied \(wrong filesystem\?\): zfs \(.* zfs"),
            ("nosuch", "driver not supported: nosuch"),
        ):
            with pytest.raises(SystemError_, match=f"^error initializing graphdriver: {text}"):
                choose(tmp_path, name, [], ForkedHelpers())
        assert os.listdir(tmp_path) == []

    def test_the_next_best_where_overlays_cannot_be(self, tmp_path: Path) -> None:
        """An overlay cannot be the upper layer of another one."""

        def look() -> list[str]:
            os.mkdir("/data")
            return [choose(Path("/data"), "", [], ForkedHelpers()).name, *os.listdir("/data")]

        driver = choose(tmp_path, "overlay2", [], ForkedHelpers())
        for layer, parent in (("a" * 64, ""), ("b" * 64, "a" * 64)):
            asyncio.run(driver.create(layer, parent))
        assert inside(driver.mounts("b" * 64, "a" * 64), tmp_path / "mnt", look) == ["vfs", "vfs"]

    def test_overlays_need_the_kinds_of_directory_entries(self, tmp_path: Path) -> None:
        with loop_mounted(tmp_path / "disk", "ext4", 16 << 20, make=["-O", "^filetype"]) as mounted:
            text = "overlay2: the backing extfs filesystem is formatted without d_type support"
            with pytest.raises(SystemError_, match=text):
                choose(mounted, "overlay2", [], ForkedHelpers())
            assert "overlay2" not in os.listdir(mounted)

    def test_bad_options_are_refused(self, tmp_path: Path) -> None:
        for driver, option, text in (
            ("overlay2", "dm.fs=ext4", "overlay2: unknown option dm.fs"),
            ("btrfs", "overlay2.size=1g", "unknown option overlay2.size"),
            ("vfs", "overlay2.size=1g", "vfs driver does not support overlay2.size options"),
            ("vfs", "size", "unable to parse storage-opt key/value: size"),
        ):
            with pytest.raises(InvalidParameter, match=text):
                choose(tmp_path, driver, [option], ForkedHelpers())

    def test_lists_what_it_made(self, tmp_path: Path) -> None:
        driver = choose(tmp_path, "overlay2", [], ForkedHelpers())
        asyncio.run(driver.create("a" * 64, ""))
        assert inside(driver.mounts("a" * 64, ""), tmp_path / "mnt", listing) == {}
