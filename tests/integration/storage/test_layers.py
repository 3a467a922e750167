"""Containers' layers: what every container has, directories, copies to volumes, sizes, removal."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services.protocol.errors import SystemError_
from tests.integration.storage.conftest import Home
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import directory, entry, image_archive, inside, listing, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")

FIRST, SECOND = "a" * 64, "b" * 64
ROOT = tar(
    directory("etc"),
    entry("etc/passwd", b"root"),
    entry("etc/hosts", b"from the image"),
    symlink("etc/mtab", "/nowhere"),
    directory("data", mode=0o1777, uid=5, gid=6),
    entry("data/f", b"content", mode=0o4750, uid=7, gid=8),
    symlink("data/l", "/etc/passwd"),
    directory("escape"),
    symlink("escape/dir", "../../../../../../../.."),
)


def run(home: Home, test: Callable[[Storage], Awaitable[None]]) -> None:
    async def body() -> None:
        async with storage(home.root, home.driver) as made:
            await made.load(image_archive([(["img:1"], [ROOT])]))
            await made.layers.create(FIRST, made.images.resolve("img:1").chain_id, {})
            await test(made)

    asyncio.run(body())


def test_every_container_has_the_init_files(tmp_path: Path, home: Home) -> None:
    async def test(s: Storage) -> None:
        seen = inside(s.layers.mounts(FIRST), tmp_path / "mnt", listing)
        made = {"/dev", "/dev/console", "/dev/pts", "/dev/shm", "/proc", "/sys", "/.dockerenv"}
        assert made <= set(seen)
        assert seen["/etc/mtab"] == "-> /proc/mounts"
        assert seen["/etc/hosts"] == seen["/etc/resolv.conf"] == seen["/dev/console"] == ""
        calls = len(s.helpers.calls)
        await s.layers.create(SECOND, s.images.resolve("img:1").chain_id, {})
        if home.driver == "overlay2":
            assert len(s.helpers.calls) == calls, "the second container needs no helper"

    run(home, test)


def test_create_and_remove_are_idempotent(home: Home) -> None:
    async def test(s: Storage) -> None:
        chain = s.images.resolve("img:1").chain_id
        before = s.layers.chains.users(chain)
        await s.layers.create(FIRST, chain, {})
        assert s.layers.chains.users(chain) == before
        for _ in range(2):
            await s.layers.remove(FIRST)
        assert s.layers.chains.users(chain) == before - 1
        assert FIRST not in s.layer_directories()
        async with asyncio.timeout(90):
            while os.listdir(s.layers.driver.trash):
                await asyncio.sleep(0.02)

    run(home, test)


def test_a_container_without_an_image_layer(tmp_path: Path, home: Home) -> None:
    async def test(s: Storage) -> None:
        await s.layers.create(SECOND, "", {})
        seen = inside(s.layers.mounts(SECOND), tmp_path / "mnt", listing)
        assert "/.dockerenv" in seen and "/etc/passwd" not in seen

    run(home, test)


def test_make_directory(tmp_path: Path, home: Home) -> None:
    async def test(s: Storage) -> None:
        await s.layers.make_directory(FIRST, "/made/for/../me")
        await s.layers.make_directory(FIRST, "/escape/dir/reached")

        def look() -> list[object]:
            found = os.stat("/made/me")
            return [stat.S_IMODE(found.st_mode), found.st_uid, os.path.isdir("/reached")]

        assert inside(s.layers.mounts(FIRST), tmp_path / "mnt", look) == [0o755, 0, True]
        assert not os.path.exists("/reached")
        for path in ("/etc/passwd", "/etc/passwd/x"):
            with pytest.raises(SystemError_, match=f"^Cannot mkdir: {path} is not a directory$"):
                await s.layers.make_directory(FIRST, path)

    run(home, test)


def test_known_directories_need_no_helper(home: Home) -> None:
    async def test(s: Storage) -> None:
        await s.layers.make_directory(FIRST, "/data")
        calls = len(s.helpers.calls)
        await s.layers.make_directory(FIRST, "/data")
        assert len(s.helpers.calls) == calls

    run(home, test)


def test_copy_up(tmp_path: Path, home: Home) -> None:
    async def test(s: Storage) -> None:
        target = tmp_path / "volume"
        target.mkdir()
        assert await s.layers.copy_up(FIRST, "/data", str(target)) == "copied"
        found = os.stat(target)
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o1777, 5, 6)
        found = os.stat(target / "f")
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o4750, 7, 8)
        assert os.readlink(target / "l") == "/etc/passwd"
        assert await s.layers.copy_up(FIRST, "/data", str(target)) == "kept", "it is not empty"
        empty = tmp_path / "empty"
        empty.mkdir()
        assert await s.layers.copy_up(FIRST, "/nosuch", str(empty)) == "absent"
        assert await s.layers.copy_up(FIRST, "/etc/passwd", str(empty)) == "file"

    run(home, test)


def test_sizes(tmp_path: Path, home: Home) -> None:
    async def test(s: Storage) -> None:
        def write() -> None:
            Path("/new").write_bytes(b"x" * 100)

        before = await s.layers.sizes(FIRST)
        inside(s.layers.mounts(FIRST), tmp_path / "mnt", write)
        after = await s.layers.sizes(FIRST)
        assert (after[0] - before[0], after[1] - before[1]) == (100, 100)

    run(home, test)


def test_the_sweep_removes_what_no_container_has(home: Home) -> None:
    async def test(s: Storage) -> None:
        chain = s.images.resolve("img:1").chain_id
        await s.layers.create(SECOND, chain, {})
        await s.layers.driver.create("c" * 64, "")
        await s.layers.sweep({SECOND})
        left = {name for name in s.layer_directories() if not name.endswith("-init")}
        assert left == {SECOND, s.layers.chains.cache_id(chain)}
        assert s.layers.mounts(SECOND)

    run(home, test)
