"""Layers made side by side: in any order extracted, from the lowest up registered, joined, given up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from services.engine.layers import Layer, Making, chain_ids
from services.engine.scopes import settled
from services.protocol.errors import InvalidParameter, SystemError_
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import digest, directory, entry, inside, listing, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

LOW, TOP = tar(entry("low", b"1"), entry("both", b"low")), tar(entry("top", b"2"), entry("both", b"top"))
CHAINS = chain_ids([digest(LOW), digest(TOP)])


class Held:
    """A layer that comes when it is let go; ``most`` of them were read at once."""

    open = most = 0

    def __init__(self, path: Path, archive: bytes, *, held: bool = False) -> None:
        path.write_bytes(archive)
        self.digest = ""
        self.gone = asyncio.Event()
        self.fail: Exception | None = None
        self.left = 0
        self._path = path
        if not held:
            self.gone.set()

    async def ready(self) -> None:
        await self.gone.wait()
        if self.fail is not None:
            raise self.fail

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[int]:
        fd = os.open(self._path, os.O_RDONLY)
        Held.open += 1
        Held.most = max(Held.most, Held.open)
        try:
            yield fd
        finally:
            Held.open -= 1
            os.close(fd)

    async def leave(self) -> None:
        self.left += 1


class Work:
    """Two layers in the making."""

    def __init__(self, s: Storage, tmp_path: Path, *, held: bool = False, origin: str = "o") -> None:
        self.low = Held(tmp_path / "low", LOW, held=held)
        self.top = Held(tmp_path / "top", TOP)
        self.maker = s.layers.maker
        self.makings: list[Making[Held]] = []
        self.makings.append(self.maker.join("", digest(LOW), origin, lambda: self.low))
        self.makings.append(self.maker.join(self.makings[0], digest(TOP), origin, lambda: self.top))

    async def leave(self) -> None:
        for making in self.makings[::-1]:
            await self.maker.leave(making)


def run(tmp_path: Path, test: Callable[[Storage], Awaitable[None]], driver: str = "overlay2") -> None:
    async def body() -> None:
        async with storage(tmp_path / "root", driver) as made:
            async with asyncio.timeout(120):
                await test(made)
            assert made.layer_directories() == set()
            assert os.listdir(made.root / "image" / driver / "layerdb") == []

    asyncio.run(body())


async def extracted(s: Storage, count: int) -> None:
    while s.helpers.calls.count("docker-applylayer") < count or s.helpers.pids:
        await asyncio.sleep(0.001)


def test_the_upper_one_may_be_extracted_first(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        work = Work(s, tmp_path, held=True)
        await extracted(s, 1)
        await asyncio.sleep(0.05)
        assert not any(chain in s.layers.chains for chain in CHAINS)
        work.low.gone.set()
        layers = [await making.wait() for making in work.makings]
        assert [layer.chain_id for layer in layers] == CHAINS
        rows = s.store.load("SELECT chain_id FROM layers ORDER BY rowid")
        assert [row[0] for row in rows] == CHAINS
        mounts = s.layers.driver.mounts(layers[1].cache_id, layers[0].cache_id, read_only=True)
        assert inside(mounts, tmp_path / "mnt", listing) == {"/low": "1", "/top": "2", "/both": "top"}
        await work.leave()
        assert (work.low.left, work.top.left) == (1, 1)

    run(tmp_path, test)


def test_one_after_the_other_where_layers_are_copies(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        work = Work(s, tmp_path, held=True)
        await asyncio.sleep(0.1)
        assert "docker-applylayer" not in s.helpers.calls
        work.low.gone.set()
        layer = await work.makings[1].wait()
        mounts = s.layers.driver.mounts(layer.cache_id, "", read_only=True)
        assert inside(mounts, tmp_path / "mnt", listing) == {"/low": "1", "/top": "2", "/both": "top"}
        await work.leave()

    run(tmp_path, test, "vfs")


@pytest.mark.parametrize("own", [False, True])
def test_the_root_directory_shows_what_the_highest_layer_says(tmp_path: Path, own: bool) -> None:
    async def test(s: Storage) -> None:
        low = tar(directory("./", mode=0o1711, uid=5, gid=6), entry("f", b"1"))
        top = tar(*([directory("./", mode=0o700)] if own else []), entry("g", b"2"))
        maker = s.layers.maker
        first = maker.join("", digest(low), "o", lambda: Held(tmp_path / "low", low))
        second = maker.join(first, digest(top), "o", lambda: Held(tmp_path / "top", top))
        layer = await second.wait()
        found = os.stat(s.layers.driver.extraction(layer.cache_id).directory)
        wanted = (0o700, 0, 0) if own else (0o1711, 5, 6)
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == wanted
        await maker.leave(second)
        await maker.leave(first)

    run(tmp_path, test)


def test_whoever_wants_the_same_joins(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        work, other = Work(s, tmp_path, held=True), Work(s, tmp_path, held=True)
        assert other.makings == work.makings and other.low is not work.low
        await work.leave()  # who began it goes, the work goes on
        work.low.gone.set()
        assert (await other.makings[1].wait()).chain_id == CHAINS[1]
        assert s.helpers.calls.count("docker-applylayer") == 2
        assert CHAINS[1] in s.layers.chains
        await other.leave()

    run(tmp_path, test)


def test_it_ends_with_the_last_who_wants_it(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        work, other = Work(s, tmp_path, held=True), Work(s, tmp_path, held=True)
        await extracted(s, 1)
        await other.leave()
        assert not work.makings[0].task.done()
        await work.leave()
        assert all(making.task.cancelled() for making in work.makings)
        assert work.low.left == work.top.left == 1
        # Cancelled before it has begun.
        early = Work(s, tmp_path)
        await early.leave()
        assert early.low.left == early.top.left == 1

    run(tmp_path, test)


def test_it_ends_while_a_layer_is_written_to_the_database(tmp_path: Path) -> None:
    """What is in the database by then is released like what was there before."""

    async def test(s: Storage) -> None:
        inserted, go_on, insert = asyncio.Event(), asyncio.Event(), s.layers.chains.insert

        async def slowly(layer: Layer) -> None:
            await insert(layer)
            inserted.set()
            await settled(go_on.wait())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(s.layers.chains, "insert", slowly)
            work = Work(s, tmp_path)
            await inserted.wait()
            leaving = asyncio.ensure_future(work.leave())
            while not work.makings[0].task.cancelling():
                await asyncio.sleep(0.001)
            go_on.set()
            await leaving
        assert s.store.load("SELECT * FROM layers") == []

    run(tmp_path, test)


def test_what_fails_takes_along_what_is_above(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        work = Work(s, tmp_path, held=True)
        work.low.fail = SystemError_("the road is bad")
        await extracted(s, 1)
        work.low.gone.set()
        for making in work.makings:
            with pytest.raises(SystemError_, match="^the road is bad$"):
                await making.wait()
        await work.leave()
        # The next attempt begins anew, also in the middle of giving up.
        again = Work(s, tmp_path)
        assert (await again.makings[1].wait()).chain_id == CHAINS[1]
        await again.leave()

    run(tmp_path, test)


def test_content_that_is_another(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        making = s.layers.maker.join("", digest(LOW), "o", lambda: Held(tmp_path / "x", TOP))
        with pytest.raises(InvalidParameter, match=f'^expected "{digest(LOW)}", got "{digest(TOP)}"$'):
            await making.wait()
        await s.layers.maker.leave(making)

    run(tmp_path, test)


def test_two_origins_of_the_same_layers(tmp_path: Path) -> None:
    """Each extracts on its own; the first to register wins, and the other's upper layers are on it."""

    async def test(s: Storage) -> None:
        (tmp_path / "a").mkdir()
        first, second = Work(s, tmp_path), Work(s, tmp_path / "a", origin="p")
        third = tar(symlink("third", "x"))
        above = s.layers.maker.join(
            second.makings[1], digest(third), "p", lambda: Held(tmp_path / "third", third)
        )
        layer = await above.wait()
        assert s.helpers.calls.count("docker-applylayer") == 5
        lineage = s.layers.chains.lineage(layer.chain_id)
        assert [one.chain_id for one in lineage] == [layer.chain_id, *CHAINS[::-1]]
        mounts = s.layers.driver.mounts(layer.cache_id, lineage[1].cache_id, read_only=True)
        names = inside(mounts, tmp_path / "mnt", lambda: sorted(os.listdir("/")))
        assert names == ["both", "low", "third", "top"]
        await s.layers.maker.leave(above)
        await first.leave()
        await second.leave()

    run(tmp_path, test)


def test_no_more_at_once_than_processors(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        layers = [tar(*(entry(f"{n}/{i}", os.urandom(900)) for i in range(200))) for n in range(7)]
        makings: list[Making[Held]] = []
        for number, layer in enumerate(layers):
            source = Held(tmp_path / str(number), layer)
            below = makings[-1] if makings else ""
            makings.append(s.layers.maker.join(below, digest(layer), "o", lambda source=source: source))
        Held.most = 0
        await makings[-1].wait()
        assert 0 < Held.most <= len(os.sched_getaffinity(0))
        for making in makings[::-1]:
            await s.layers.maker.leave(making)

    run(tmp_path, test)
