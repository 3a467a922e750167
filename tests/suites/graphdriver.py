"""What every graph driver must do; run by each of them (``services.engine.graphdrivers.base``)."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

import pytest

from reexec.helpers.applylayer import ApplyLayer
from services.engine.graphdrivers import GraphDriver
from services.engine.helpers import document
from services.protocol.errors import InvalidParameter, WharfError
from tests.harness.steps import KilledAt
from tests.suites.forked import ForkedHelpers
from tests.suites.trees import directory, entry, inside, listing, symlink, tar


class GraphDriverSuite:
    """Subclass it with fixtures ``driver`` (prepared, on an empty directory) and ``tmp_path``."""

    #: What an unknown option of a container is answered with.
    unknown_option = "Unknown option nosuch"
    #: Layers that a container can have below it.
    depth = 125

    @staticmethod
    def fill(driver: GraphDriver, layer: str, archive: bytes, tmp_path: Path) -> None:
        place = driver.extraction(layer)
        path = tmp_path / secrets.token_hex(4)
        path.write_bytes(archive)
        fd = os.open(path, os.O_RDONLY)
        try:
            argv = document("docker-applylayer", ApplyLayer(str(place.directory), place.whiteouts))
            asyncio.run(ForkedHelpers().run(argv, {"stdin": fd}))
        finally:
            os.close(fd)

    def stack(self, driver: GraphDriver, tmp_path: Path, *archives: bytes) -> str:
        """A read-write layer on the archives, from the lowest; returns its parent's id."""
        parent = ""
        for archive in archives:
            layer = secrets.token_hex(32)
            asyncio.run(driver.create(layer, parent))
            self.fill(driver, layer, archive, tmp_path)
            parent = layer
        asyncio.run(driver.create_read_write("c" * 64, parent, {}))
        return parent

    def look(self, driver: GraphDriver, parent: str, tmp_path: Path) -> dict[str, str]:
        return inside(driver.mounts("c" * 64, parent), tmp_path / "mnt", listing)

    def test_layers_are_seen_as_one_tree(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(
            driver,
            tmp_path,
            tar(directory("etc"), entry("etc/a", b"1"), entry("etc/b", b"1"), symlink("l", "etc")),
            tar(entry("etc/b", b"2"), entry("etc/c", b"2")),
        )
        seen = self.look(driver, parent, tmp_path)
        assert seen == {"/etc": "/", "/etc/a": "1", "/etc/b": "2", "/etc/c": "2", "/l": "-> etc"}

    def test_whiteouts_delete(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(
            driver,
            tmp_path,
            tar(entry("keep", b"1"), entry("gone", b"1"), directory("d"), entry("d/x", b"1")),
            tar(entry(".wh.gone"), entry(".wh.d")),
        )
        assert self.look(driver, parent, tmp_path) == {"/keep": "1"}

    def test_opaque_directories_hide_what_is_below_and_nothing_else(
        self, driver: GraphDriver, tmp_path: Path
    ) -> None:
        parent = self.stack(
            driver,
            tmp_path,
            tar(directory("d"), entry("d/old", b"1"), directory("d/s"), entry("d/s/old", b"1")),
            tar(directory("d"), entry("d/new", b"2"), entry("d/.wh..wh..opq")),
        )
        assert self.look(driver, parent, tmp_path) == {"/d": "/", "/d/new": "2"}

    def test_a_container_writes_to_its_own_layer_only(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1"), entry("b", b"1")))
        asyncio.run(driver.create_read_write("d" * 64, parent, {}))

        def write() -> None:
            Path("/a").write_text("changed")
            Path("/b").unlink()

        inside(driver.mounts("c" * 64, parent), tmp_path / "mnt", write)
        assert self.look(driver, parent, tmp_path) == {"/a": "changed"}
        other = inside(driver.mounts("d" * 64, parent), tmp_path / "mnt", listing)
        assert other == {"/a": "1", "/b": "1"}

    def test_read_only_mounts_refuse_writing(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1")))

        def write() -> None:
            Path("/a").write_text("changed")

        with pytest.raises(AssertionError, match="Read-only file system"):
            inside(driver.mounts("c" * 64, parent, read_only=True), tmp_path / "mnt", write)

    def test_the_root_directory_is_the_images(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(directory(".", mode=0o750, uid=7, gid=8)))

        def look() -> list[int]:
            found = os.stat("/")
            return [found.st_mode & 0o7777, found.st_uid, found.st_gid]

        assert inside(driver.mounts("c" * 64, parent), tmp_path / "mnt", look) == [0o750, 7, 8]

    def test_discarding_is_idempotent_and_leaves_only_trash(
        self, driver: GraphDriver, tmp_path: Path
    ) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1")))
        assert driver.layers() == {parent, "c" * 64}
        for _ in range(2):
            driver.discard("c" * 64)
            driver.discard(parent)
        assert driver.layers() == set()
        assert len(os.listdir(driver.trash)) == 2

    def test_creating_again_starts_anew(self, driver: GraphDriver, tmp_path: Path) -> None:
        asyncio.run(driver.create("a" * 64, ""))
        self.fill(driver, "a" * 64, tar(entry("half", b"1")), tmp_path)
        asyncio.run(driver.create("a" * 64, ""))
        self.fill(driver, "a" * 64, tar(entry("whole", b"1")), tmp_path)
        assert inside(driver.mounts("a" * 64, ""), tmp_path / "mnt", listing) == {"/whole": "1"}

    def test_a_filled_layer_can_be_renamed(self, driver: GraphDriver, tmp_path: Path) -> None:
        asyncio.run(driver.create("a" * 64, ""))
        self.fill(driver, "a" * 64, tar(entry("f", b"1")), tmp_path)
        driver.rename("a" * 64, "b" * 64)
        asyncio.run(driver.create_read_write("c" * 64, "b" * 64, {}))
        assert self.look(driver, "b" * 64, tmp_path) == {"/f": "1"}
        assert driver.layers() == {"b" * 64, "c" * 64}

    def test_what_is_discarded_can_be_deleted_whole(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(directory("d"), entry("d/a", b"1"), symlink("l", "/")))

        def write() -> None:
            os.makedirs("/deep/er", mode=0o500)
            Path("/deep/er/f").write_text("x")
            os.mkfifo("/deep/p")

        inside(driver.mounts("c" * 64, parent), tmp_path / "mnt", write)
        driver.discard("c" * 64)
        driver.discard(parent)
        self.empty_trash(driver)
        assert os.listdir(driver.trash) == []

    @staticmethod
    def empty_trash(driver: GraphDriver) -> None:
        paths = [str(driver.trash / name) for name in os.listdir(driver.trash)]
        asyncio.run(ForkedHelpers().run(["docker-remove", *paths]))

    def test_a_half_made_layer_is_listed_and_can_be_discarded(
        self, driver: GraphDriver, tmp_path: Path
    ) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1")))
        asyncio.run(driver.create("e" * 64, parent))
        with pytest.raises(WharfError):
            self.fill(driver, "e" * 64, tar(entry("b", b"1" * 5000))[:3000], tmp_path)
        driver.prepare()  # as a restarted engine does
        assert driver.layers() == {parent, "c" * 64, "e" * 64}
        driver.discard("e" * 64)
        assert driver.layers() == {parent, "c" * 64}
        assert self.look(driver, parent, tmp_path) == {"/a": "1"}

    def restarted(self, driver: GraphDriver, keep: set[str]) -> GraphDriver:
        """As a restarted engine has it, which keeps the layers *keep*."""
        again = type(driver)(driver.trash.parent, ForkedHelpers(), {})  # type: ignore[call-arg]
        again.prepare()
        for layer in again.layers() - keep:
            again.discard(layer)
        assert again.layers() <= keep
        self.check_home(again)
        return again

    def check_home(self, driver: GraphDriver) -> None:
        """There is nothing in the driver's directory but its layers."""

    def test_a_layer_killed_at_any_step_of_its_life(self, driver: GraphDriver, tmp_path: Path) -> None:
        parent = self.stack(driver, tmp_path, tar(entry("a", b"1")))
        always, number, reached = {parent, "c" * 64}, 0, True
        while reached:
            number += 1
            with KilledAt(number) as killed:
                asyncio.run(driver.create("d" * 64, parent))
                driver.rename("d" * 64, "e" * 64)
                asyncio.run(driver.create_read_write("f" * 64, "e" * 64, {}))
                driver.discard("f" * 64)
                driver.discard("e" * 64)
            reached = killed.reached
            driver = self.restarted(driver, always | {"e" * 64})
            if "e" * 64 in driver.layers():  # it has its final name, so it can be used
                asyncio.run(driver.create_read_write("f" * 64, "e" * 64, {}))
                assert inside(driver.mounts("f" * 64, "e" * 64), tmp_path / "mnt", listing) == {"/a": "1"}
            driver = self.restarted(driver, always)
        assert number > 5
        assert self.look(driver, parent, tmp_path) == {"/a": "1"}
        self.empty_trash(driver)
        assert os.listdir(driver.trash) == []

    def test_as_many_layers_as_docker_allows(self, driver: GraphDriver, tmp_path: Path) -> None:
        archives = [tar(entry(f"f{number}", str(number).encode())) for number in range(self.depth - 1)]
        archives.append(tar(entry(".wh.f3"), entry("f4", b"new")))
        parent = self.stack(driver, tmp_path, *archives)

        def write() -> None:
            Path("/f5").unlink()
            Path("/f6").write_text("changed")

        inside(driver.mounts("c" * 64, parent), tmp_path / "mnt", write)
        seen = self.look(driver, parent, tmp_path)
        assert len(seen) == self.depth - 3
        assert "/f3" not in seen and "/f5" not in seen
        assert (seen["/f0"], seen["/f4"], seen["/f6"]) == ("0", "new", "changed")

    def test_unknown_storage_options_are_refused(self, driver: GraphDriver) -> None:
        with pytest.raises(InvalidParameter, match=self.unknown_option):
            asyncio.run(driver.create_read_write("c" * 64, "", {"nosuch": "1"}))
