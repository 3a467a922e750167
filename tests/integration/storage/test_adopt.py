"""Layers made of a container's own files: the same as those that are packed and extracted."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.integration.storage.conftest import Home
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import directory, entry, image_archive, inside, listing, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")

ID, LOOK = "a" * 64, "b" * 64
ROOT = tar(
    directory("etc"),
    entry("etc/passwd", b"root"),
    directory("d"),
    entry("d/f", b"content"),
    directory("d/below"),
    entry("d/below/x", b"x"),
    entry("gone", b"gone"),
    symlink("link", "d"),
)
EPOCH = 1_600_000_000


def run(home: Home, test: Callable[[Storage], Awaitable[None]]) -> None:
    async def body() -> None:
        async with storage(home.root, home.driver) as made:
            await made.load(image_archive([(["img:1"], [ROOT])]))
            await made.layers.create(ID, made.images.resolve("img:1").chain_id, {})
            await test(made)

    asyncio.run(body())


def change() -> None:
    Path("/etc/passwd").write_text("changed")
    os.chmod("/etc/passwd", 0o4640)
    Path("/gone").unlink()
    Path("/new").mkdir(mode=0o700)
    os.symlink("x", "/new/l")
    os.mkfifo("/new/pipe")
    Path("/new/one").write_bytes(bytes(100_000) + b"end")
    os.link("/new/one", "/new/other")
    os.setxattr("/new/one", "user.note", b"kept")
    os.unlink("/d/below/x")
    os.rmdir("/d/below")
    Path("/d/below").mkdir()
    Path("/d/below/y").write_text("y")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("/new/socket")


def test_taking_a_containers_layer_is_committing_it(tmp_path: Path, home: Home) -> None:
    async def test(s: Storage) -> None:
        inside(s.layers.mounts(ID), tmp_path / "mnt", change)
        copied = await s.layers.commit(ID)
        await s.layers.create(LOOK, copied.chain_id, {})

        def look() -> dict[str, object]:
            found: dict[str, object] = dict(listing("/new")) | dict(listing("/d")) | dict(listing("/etc"))
            return found | {"note": os.getxattr("/new/one", "user.note"), "top": sorted(os.listdir("/"))}

        before = inside(s.layers.mounts(LOOK), tmp_path / "mnt", lambda: repr(_without_pipe(look)))
        await s.layers.remove(LOOK)
        await s.layers.release(copied.chain_id)
        assert copied.chain_id not in s.layers.chains
        taken = await s.layers.take(ID)
        assert (taken.diff_id, taken.size) == (copied.diff_id, copied.size)
        await s.layers.remove(ID)
        await s.layers.create(LOOK, taken.chain_id, {})
        assert inside(s.layers.mounts(LOOK), tmp_path / "mnt", lambda: repr(_without_pipe(look))) == before
        assert "/new/other" in before and "/new/socket" not in before
        await s.layers.release(taken.chain_id)

    run(home, test)


def _without_pipe(look: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Whoever opened it would wait for a writer."""
    os.unlink("/new/pipe")
    return look()


def test_a_layer_has_whole_seconds(tmp_path: Path, home: Home) -> None:
    """As if it had been packed and extracted."""

    def make() -> None:
        Path("/f").write_text("x")
        os.utime("/f", ns=(EPOCH * 10**9 + 7, EPOCH * 10**9 + 7))

    async def test(s: Storage) -> None:
        inside(s.layers.mounts(ID), tmp_path / "mnt", make)
        layer = await s.layers.take(ID)
        await s.layers.create(LOOK, layer.chain_id, {})
        found = inside(s.layers.mounts(LOOK), tmp_path / "mnt", lambda: os.stat("/f").st_mtime_ns)
        assert found == EPOCH * 10**9
        await s.layers.release(layer.chain_id)

    run(home, test)


def test_nothing_is_newer_than_wanted(tmp_path: Path, home: Home) -> None:
    def make() -> None:
        Path("/made").mkdir()
        Path("/made/f").write_text("x")
        Path("/made/old").write_text("x")
        os.utime("/made/old", (EPOCH - 5, EPOCH - 5))

    def times() -> list[int]:
        return [int(os.lstat(path).st_mtime) for path in ("/made", "/made/f", "/made/old")]

    async def test(s: Storage) -> None:
        inside(s.layers.mounts(ID), tmp_path / "mnt", make)
        layer = await s.layers.take(ID, EPOCH)
        await s.layers.create(LOOK, layer.chain_id, {})
        assert inside(s.layers.mounts(LOOK), tmp_path / "mnt", times) == [EPOCH, EPOCH, EPOCH - 5]
        await s.layers.release(layer.chain_id)

    run(home, test)


def test_nothing_changed_is_the_empty_layer(home: Home) -> None:
    async def test(s: Storage) -> None:
        layer = await s.layers.take(ID)
        assert layer.size == 0
        await s.layers.release(layer.chain_id)

    run(home, test)
