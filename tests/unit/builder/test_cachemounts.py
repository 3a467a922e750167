"""Cache mounts: who gets which directory, who waits, and what is left of those that were half made."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from reexec.helpers.remove import remove
from services.engine.builder import cachemounts
from services.engine.builder.cachemounts import CacheMounts
from services.engine.helpers import Helpers
from services.engine.scopes import Background
from services.protocol.errors import Conflict, NotFound, Unavailable
from services.protocol.fdpass import Handover


class InProcess:
    """Helpers that need no other process."""

    async def run(
        self, argv: Sequence[str], fds: Mapping[str, int] | None = None, *, private_mounts: bool = False
    ) -> bytes:
        assert argv[0] in ("docker-remove", "docker-size")
        if argv[0] == "docker-size":
            return msgspec.msgpack.encode(sum(p.stat().st_size for p in Path(argv[1]).rglob("*")))
        for path in argv[1:]:
            remove(path)
        return b""

    def handover(self, argv: Sequence[str]) -> Handover:
        raise AssertionError


@pytest.fixture
def caches(tmp_path: Path) -> CacheMounts:
    return made(tmp_path / "caches")


def made(root: Path, helpers: Helpers | None = None) -> CacheMounts:
    return CacheMounts(root, helpers or InProcess(), Background("test"))


async def nothing(_: Path) -> None:
    return None


def test_what_stays_empty_is_not_kept(caches: CacheMounts, tmp_path: Path) -> None:
    async def fill(directory: Path) -> None:
        (directory / "file").touch()

    async def work() -> None:
        async with AsyncExitStack() as one:
            async with AsyncExitStack() as two:
                directory = await take(caches, one, "a", "shared")
                assert await take(caches, two, "a", "shared") == directory
            assert len(caches.list()) == 1
        assert not caches.list() and not list((tmp_path / "caches").iterdir())
        async with caches.hold("a", "a", "shared", nothing) as directory:
            (directory / "file").touch()
        for _ in range(2):
            async with caches.hold("b", "b", "shared", fill) as filled:
                (filled / "file").unlink(missing_ok=True)
            async with caches.hold("a", "a", "shared", nothing) as again:
                assert again == directory
                (again / "file").unlink(missing_ok=True)
        assert len(caches.list()) == 2

    asyncio.run(work())


async def take(caches: CacheMounts, stack: AsyncExitStack, key: str, sharing: str) -> Path:
    return await stack.enter_async_context(caches.hold(key, key, sharing, nothing))


def test_sharing(caches: CacheMounts) -> None:
    async def work() -> None:
        async with AsyncExitStack() as one, AsyncExitStack() as two, AsyncExitStack() as three:
            shared = await take(caches, one, "a", "shared")
            assert await take(caches, two, "a", "shared") == shared
            private = await take(caches, three, "a", "private")
            assert private != shared
            assert await take(caches, two, "b", "private") not in (shared, private)
            for directory in (shared, private):
                (directory / "file").touch()
        async with AsyncExitStack() as one:
            # Both are free again: no third is made.
            assert {await take(caches, one, "a", "private"), await take(caches, one, "a", "shared")} == {
                shared,
                private,
            }

    asyncio.run(work())


def test_locked_waits_until_nobody_has_it(caches: CacheMounts) -> None:
    async def work() -> None:
        order: list[str] = []

        async def step(name: str, sharing: str, begun: asyncio.Event) -> None:
            async with caches.hold("a", "a", sharing, nothing):
                order.append(name)
                begun.set()
                await asyncio.sleep(0.05)
                order.append(name)

        first, second = asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(step("shared", "shared", first))
        await first.wait()
        other = asyncio.create_task(step("locked", "locked", second))
        await asyncio.gather(one, other)
        assert order == ["shared", "shared", "locked", "locked"]

    asyncio.run(work())


def test_at_the_same_time_one_is_made(caches: CacheMounts) -> None:
    async def work() -> None:
        async def fill(_: Path) -> None:
            await asyncio.sleep(0.02)

        async def step() -> Path:
            async with caches.hold("a", "a", "shared", fill) as directory:
                return directory

        assert len(set(await asyncio.gather(*(step() for _ in range(5))))) == 1

    asyncio.run(work())


def test_failure_to_fill_leaves_nothing_and_blocks_nobody(caches: CacheMounts, tmp_path: Path) -> None:
    async def work() -> None:
        async def fail(_: Path) -> None:
            raise NotFound("no such stage")

        with pytest.raises(NotFound, match="no such stage"):
            async with caches.hold("a", "a", "locked", fail):
                pass
        assert not list((tmp_path / "caches").iterdir())
        async with caches.hold("a", "a", "locked", nothing):
            pass

    asyncio.run(work())


def test_removal_size_and_what_a_restart_finds(caches: CacheMounts, tmp_path: Path) -> None:
    root = tmp_path / "caches"

    async def work() -> None:
        async with caches.hold("a", "the first", "shared", nothing) as directory:
            (directory / "file").write_text("12345")
            (name,) = (one.name for one in caches.list())
            with pytest.raises(Conflict):
                await caches.remove(name)
        assert await caches.size(name) == 5
        for left in (".new-1", f".gone-{name}", "stray"):
            (root / left / "data").mkdir(parents=True)
        again = made(root)
        await again.sweep()
        assert [path.name for path in root.iterdir()] == [name]
        (found,) = again.list()
        assert (found.description, found.uses) == ("the first", 1) and found.used >= found.created > 0
        async with again.hold("a", "a", "private", nothing) as directory:
            assert (directory / "file").read_text() == "12345"
        await again.remove(name)
        assert not list(root.iterdir()) and not again.list()
        with pytest.raises(NotFound):
            await again.size(name)

    asyncio.run(work())


def test_a_use_that_cannot_be_written_down_blocks_nobody(caches: CacheMounts, tmp_path: Path) -> None:
    async def work() -> None:
        async with caches.hold("a", "a", "locked", nothing):
            for path in (tmp_path / "caches").iterdir():
                shutil.rmtree(path)
        async with asyncio.timeout(60), caches.hold("a", "a", "locked", nothing):
            pass

    asyncio.run(work())


def test_a_mount_that_no_step_came_to_use_is_swept(caches: CacheMounts, tmp_path: Path) -> None:
    root = tmp_path / "caches"

    async def fill(directory: Path) -> None:
        (directory / "file").touch()

    async def work() -> None:
        async with caches.hold("a", "a", "shared", nothing), caches.hold("b", "b", "shared", fill):
            # A crash here: what is on the disk is what the next engine finds.
            again = made(root)
            await again.sweep()
            assert [one.key for one in again.list()] == ["b"]
            assert [path.name for path in root.iterdir()] == [again.list()[0].name]

    asyncio.run(work())


def test_what_was_not_put_in_its_place_is_swept(caches: CacheMounts, tmp_path: Path) -> None:
    async def work() -> None:
        async with caches.hold("a", "a", "shared", nothing) as directory:
            (directory / "file").touch()
        (directory.parent / "about.json.0a1b2c3d").write_text("{")
        again = made(tmp_path / "caches")
        await again.sweep()
        assert len(again.list()) == 1
        assert sorted(path.name for path in directory.parent.iterdir()) == ["about.json", "data"]

    asyncio.run(work())


class Killed(InProcess):
    """Whose first helper is killed."""

    def __init__(self) -> None:
        self.calls = 0

    async def run(
        self, argv: Sequence[str], fds: Mapping[str, int] | None = None, *, private_mounts: bool = False
    ) -> bytes:
        self.calls += 1
        if self.calls == 1:
            raise Unavailable("docker-remove was killed")
        return await super().run(argv, fds, private_mounts=private_mounts)


def test_a_deletion_that_is_cut_off_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cachemounts, "_RETRY", 0.01)
    root, background = tmp_path / "caches", Background("test")

    async def work() -> None:
        caches = CacheMounts(root, Killed(), background)
        async with caches.hold("a", "a", "shared", nothing):
            pass
        assert not caches.list()
        await background.drain()
        assert not list(root.iterdir())

    asyncio.run(work())


def test_cancelled_while_it_is_made_it_is_nobodys(caches: CacheMounts, tmp_path: Path) -> None:
    async def work() -> None:
        async def fill(directory: Path) -> None:
            (directory / "file").touch()
            # Delivered when the directory has got its name.
            asyncio.get_running_loop().call_soon(task.cancel)

        async def step() -> None:
            async with caches.hold("a", "a", "locked", fill):
                raise AssertionError("it goes on")

        task = asyncio.create_task(step())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(caches.in_use(one.name) for one in caches.list())
        assert not list((tmp_path / "caches").glob(".*"))
        async with asyncio.timeout(60), caches.hold("a", "a", "locked", nothing):
            pass
        assert len(caches.list()) == len(list((tmp_path / "caches").iterdir())) <= 1

    asyncio.run(work())


def test_cancelled_when_it_has_its_name_it_is_given_back(
    caches: CacheMounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    async def work() -> None:
        loop = asyncio.get_running_loop()

        def renamed(old: Path, new: Path) -> None:
            rename(old, new)
            asyncio.run_coroutine_threadsafe(cancel(), loop).result()

        async def cancel() -> None:
            task.cancel()

        async def fill(directory: Path) -> None:
            (directory / "file").touch()
            monkeypatch.setattr(os, "rename", renamed)

        async def step() -> None:
            async with caches.hold("a", "a", "locked", fill):
                await asyncio.sleep(0)
                raise AssertionError("it goes on")

        task = asyncio.create_task(step())
        with pytest.raises(asyncio.CancelledError):
            await task
        monkeypatch.setattr(os, "rename", rename)
        (found,) = caches.list()
        assert not caches.in_use(found.name)
        assert [path.name for path in (tmp_path / "caches").iterdir()] == [found.name]

    asyncio.run(work())


class Slow(InProcess):
    """Whose helpers end when they are let."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def run(
        self, argv: Sequence[str], fds: Mapping[str, int] | None = None, *, private_mounts: bool = False
    ) -> bytes:
        self.begun.set()
        await self.go_on.wait()
        return await super().run(argv, fds, private_mounts=private_mounts)


def test_a_deletion_goes_on_when_its_client_has_left(tmp_path: Path) -> None:
    async def work() -> None:
        helpers, background = Slow(), Background("test")
        caches = CacheMounts(tmp_path, helpers, background)
        async with caches.hold("a", "a", "shared", nothing) as directory:
            (directory / "file").touch()
        removal = asyncio.create_task(caches.remove(caches.list()[0].name))
        await helpers.begun.wait()
        removal.cancel()
        with pytest.raises(asyncio.CancelledError):
            await removal
        helpers.go_on.set()
        await background.drain()
        assert not caches.list() and not list(tmp_path.iterdir())

    asyncio.run(work())


def test_removed_by_hand(caches: CacheMounts) -> None:
    async def work() -> None:
        async with caches.hold("a", "a", "shared", nothing) as directory:
            (directory / "file").touch()
        remove(str(directory.parent))
        await caches.remove(directory.parent.name)
        assert not caches.list()

    asyncio.run(work())
