"""Volumes: life, users, filters, mounts on first use."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest import mock

import pytest

from reexec.archive import syscalls
from services.engine.volumes import manager
from services.engine.volumes.mounted import is_mounted
from services.protocol.errors import Conflict, InvalidParameter, NotFound, SystemError_
from tests.harness.deep import nest
from tests.integration.storage.storage import Storage, storage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")


def run(tmp_path: Path, test: Callable[[Storage], Awaitable[None]]) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as made:
            await test(made)

    asyncio.run(body())


def test_life(tmp_path: Path) -> None:
    async def first(s: Storage) -> None:
        made = await s.volumes.create("v1", "", {}, {"a": "1"})
        assert (made.driver, made.labels, made.options) == ("local", {"a": "1"}, None)
        Path(made.mountpoint, "f").write_text("kept")
        again = await s.volumes.create("v1", "local", {"type": "tmpfs", "device": "tmpfs"}, {"b": "2"})
        assert (again.labels, again.options) == ({"a": "1"}, None)
        assert [action for _, action, _ in s.published] == ["create"]

    async def second(s: Storage) -> None:
        assert Path(s.volumes.get("v1").mountpoint, "f").read_text() == "kept"
        await s.volumes.remove("v1")
        assert os.listdir(s.root / "volumes") == []
        with pytest.raises(NotFound, match="^get v1: no such volume$"):
            s.volumes.get("v1")
        with pytest.raises(NotFound, match="^get v1: no such volume$"):
            await s.volumes.remove("v1")
        await s.volumes.remove("v1", force=True)

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_deep_tree_goes_and_holds_up_no_start(tmp_path: Path) -> None:
    async def first(s: Storage) -> None:
        made = await s.volumes.create("v1", "", {}, {})
        nest(Path(made.mountpoint), 1500)
        await s.volumes.remove("v1")
        assert os.listdir(s.root / "volumes") == []
        (s.root / "volumes/.removed-earlier").mkdir()
        nest(s.root / "volumes/.removed-earlier", 1500)

    async def second(s: Storage) -> None:
        assert os.listdir(s.root / "volumes") == []

    run(tmp_path, first)
    run(tmp_path, second)


def test_anonymous_volumes(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        made = await s.volumes.create("", "", {}, None)
        assert len(made.name) == 64
        assert made.labels == {"com.docker.volume.anonymous": ""}
        assert s.volumes.is_anonymous(made.name)
        assert not s.volumes.is_anonymous("other")

    run(tmp_path, test)


def test_refusals(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        with pytest.raises(NotFound) as caught:
            await s.volumes.create("v1", "nosuch", {}, None)
        assert (
            str(caught.value) == 'create v1: error looking up volume plugin nosuch: plugin "nosuch" not found'
        )
        with pytest.raises(InvalidParameter, match="volume name is too short"):
            await s.volumes.create("a", "", {}, None)
        with pytest.raises(InvalidParameter, match='invalid option: "nope"'):
            await s.volumes.create("v8", "", {"nope": "1"}, None)
        assert os.listdir(s.root / "volumes") == []

    run(tmp_path, test)


def test_in_use(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.volumes.create("shared", "", {}, None)
        s.use("1" * 64, uses=("shared",))
        s.use("2" * 64, uses=("shared",))
        with pytest.raises(Conflict) as caught:
            await s.volumes.remove("shared")
        assert str(caught.value) == f"remove shared: volume is in use - [{'1' * 64}, {'2' * 64}]"

    run(tmp_path, test)


def test_mounted_on_first_use_and_unmounted_after_the_last(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        made = await s.volumes.create("tt", "", {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}, None)
        assert not os.path.ismount(made.mountpoint)
        assert await s.volumes.mount("tt", "c1") == made.mountpoint
        assert os.statvfs(made.mountpoint).f_blocks * os.statvfs(made.mountpoint).f_frsize == 1 << 20
        await s.volumes.mount("tt", "c2")
        await s.volumes.unmount("tt", "c1")
        await s.volumes.unmount("tt", "c1")
        assert os.path.ismount(made.mountpoint)
        await s.volumes.unmount("tt", "c2")
        assert not os.path.ismount(made.mountpoint)

    run(tmp_path, test)


def test_a_restart_keeps_mounts_that_are_claimed_and_takes_down_others(tmp_path: Path) -> None:
    async def first(s: Storage) -> None:
        for name in ("used", "left"):
            await s.volumes.create(name, "", {"type": "tmpfs", "device": "tmpfs"}, None)
            await s.volumes.mount(name, "c1")
        Path(s.volumes.get("used").mountpoint, "f").write_text("kept")

    async def second(s: Storage) -> None:
        await s.volumes.mount("used", "c1")
        await s.volumes.sweep()
        assert Path(s.volumes.get("used").mountpoint, "f").read_text() == "kept"
        assert not os.path.ismount(s.volumes.get("left").mountpoint)
        await s.volumes.unmount("used", "c1")

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_directory_bound_from_the_same_file_system_survives_the_volume(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "f").write_text("precious")
    options = {"type": "none", "o": "bind", "device": str(theirs)}

    async def test(s: Storage) -> None:
        for times in (1, 2):
            made = await s.volumes.create("bound", "", options, None)
            for _ in range(times):
                assert Path(await s.volumes.mount("bound", "c1"), "f").read_text() == "precious"
            await s.volumes.unmount("bound", "c1")
            assert not is_mounted(made.mountpoint)
            await s.volumes.remove("bound")
            assert (theirs / "f").read_text() == "precious"

    run(tmp_path, test)


def test_a_volume_that_something_is_mounted_in_is_not_removed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "f").write_text("precious")

    async def test(s: Storage) -> None:
        made = await s.volumes.create("vv", "", {}, None)
        inside = Path(made.mountpoint, "in side")
        inside.mkdir()
        syscalls.mount(str(theirs), str(inside), "", syscalls.MS_BIND)
        try:
            with pytest.raises(SystemError_, match="remove vv: device or resource busy"):
                await s.volumes.remove("vv")
        finally:
            syscalls.umount(str(inside))
        await s.volumes.remove("vv")
        assert (theirs / "f").read_text() == "precious"

    run(tmp_path, test)


def test_a_failed_mount_says_why(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        made = await s.volumes.create("bb", "", {"type": "none", "device": "/no/such", "o": "bind"}, None)
        with pytest.raises(SystemError_) as caught:
            await s.volumes.mount("bb", "c1")
        assert str(caught.value) == (
            f"error while mounting volume '{made.mountpoint}': failed to mount local volume: "
            f"mount /no/such:{made.mountpoint}, flags: 0x1000: "
            "no such file or directory"
        )

    run(tmp_path, test)


def test_list_and_prune(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        for name, labels in (("v1", None), ("v2", {"a": "1", "b": ""}), ("v3", {"a": "2"})):
            await s.volumes.create(name, "", {}, labels)
        s.use("1" * 64, uses=("v1",))

        def names(**filters: list[str]) -> list[str]:
            return [volume.name for volume in s.volumes.select(filters).volumes or []]

        assert names() == ["v1", "v2", "v3"]
        assert names(label=["a"]) == ["v2", "v3"]
        assert names(label=["a=2"]) == ["v3"]
        assert names(driver=["nope"]) == []
        assert names(name=["2"]) == ["v2"]
        assert names(name=["^v"]) == ["v1", "v2", "v3"]
        assert names(dangling=["true"]) == ["v2", "v3"]
        assert names(dangling=["false"]) == ["v1"]
        anonymous = (await s.volumes.create("", "", {}, None)).name
        Path(s.volumes.get("v2").mountpoint, "f").write_bytes(b"x" * 50)
        reply = await s.volumes.prune({})
        assert (reply.volumes_deleted, reply.space_reclaimed) == ([anonymous], 0)
        reply = await s.volumes.prune({"all": ["true"], "label!": ["a=2"]})
        assert (reply.volumes_deleted, reply.space_reclaimed) == (["v2"], 50)
        usage = await s.volumes.usage()
        assert [(v.name, v.usage_data.ref_count) for v in usage] == [("v1", 1), ("v3", 0)]  # type: ignore[union-attr]

    run(tmp_path, test)


def test_volumes_that_are_removed_while_all_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(s: Storage) -> None:
        measured = manager.tree_size

        def removed_while_measuring(doomed: str) -> None:
            """*doomed* is removed as soon as something is measured."""
            loop, done = asyncio.get_running_loop(), []

            def late(path: str) -> int:
                if not done:
                    done.append(asyncio.run_coroutine_threadsafe(s.volumes.remove(doomed), loop).result(60))
                return measured(path)

            monkeypatch.setattr(manager, "tree_size", late)

        for name in ("v1", "v2", "v3"):
            await s.volumes.create(name, "", {}, None)
        removed_while_measuring("v2")
        assert [volume.name for volume in await s.volumes.usage()] == ["v1", "v3"]
        removed_while_measuring("v1")  # what is measured itself
        assert (await s.volumes.prune({"all": ["true"]})).volumes_deleted == ["v3"]

    run(tmp_path, test)


def test_interrupted_creations_and_removals_are_finished(tmp_path: Path) -> None:
    async def nothing(s: Storage) -> None:
        await s.volumes.create("kept", "", {}, None)

    run(tmp_path, nothing)
    volumes = tmp_path / "root" / "volumes"
    (volumes / "begun" / "_data").mkdir(parents=True)
    (volumes / "hardly-begun").mkdir()
    (volumes / ".removed-1" / "_data").mkdir(parents=True)
    (volumes / ".removed-1" / "_data" / "f").write_text("x")
    (volumes / "foreign" / "_data").mkdir(parents=True)
    (volumes / "foreign" / "_data" / "f").write_text("never delete what may be somebody's")

    async def check(s: Storage) -> None:
        assert sorted(os.listdir(volumes)) == ["foreign", "kept"]

    run(tmp_path, check)


class _Killed(BaseException):
    """The engine is killed here."""


def test_a_removal_that_is_cut_off_has_removed_nothing(tmp_path: Path) -> None:
    async def first(s: Storage) -> None:
        made = await s.volumes.create("v1", "", {}, {})
        Path(made.mountpoint, "f").write_text("kept")

        async def killed(*_: object) -> None:
            raise _Killed

        s.store.execute = killed  # type: ignore[method-assign]
        with pytest.raises(_Killed):
            await s.volumes.remove("v1")
        assert not Path(made.mountpoint).exists()

    async def second(s: Storage) -> None:
        assert Path(s.volumes.get("v1").mountpoint, "f").read_text() == "kept"
        assert os.listdir(s.root / "volumes") == ["v1"]
        await s.volumes.remove("v1")
        assert os.listdir(s.root / "volumes") == []

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_removal_that_fails_has_removed_nothing(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        long = "v" * 255
        made = await s.volumes.create(long, "", {}, {})
        Path(made.mountpoint, "f").write_text("kept")
        full = sqlite3.OperationalError("database or disk is full")
        with mock.patch.object(s.store, "execute", side_effect=full), pytest.raises(sqlite3.Error):
            await s.volumes.remove(long)
        assert Path(made.mountpoint, "f").read_text() == "kept"
        await s.volumes.remove(long)
        assert os.listdir(s.root / "volumes") == []

    run(tmp_path, test)


def test_an_anonymous_volume_is_made_once_for_a_request(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        made = [await s.volumes.create("", "", {}, None, request_id=one) for one in ("a", "a", "b")]
        assert made[0].name == made[1].name != made[2].name
        assert len(made[0].name) == 64

    run(tmp_path, test)


def test_a_volume_that_cannot_be_there_stops_no_engine(tmp_path: Path) -> None:
    async def first(s: Storage) -> None:
        await s.volumes.create("v1", "", {}, {})
        await s.volumes.create("v2", "", {}, {})
        os.rmdir(s.root / "volumes/v1/_data")
        os.rmdir(s.root / "volumes/v1")
        (s.root / "volumes/v1").write_text("in the way")

    async def second(s: Storage) -> None:
        assert Path(s.volumes.get("v2").mountpoint).is_dir()

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_volume_with_the_longest_name_can_be_removed(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.volumes.create("v" * 255, "", {}, {})
        await s.volumes.remove("v" * 255)
        assert os.listdir(s.root / "volumes") == []

    run(tmp_path, test)
