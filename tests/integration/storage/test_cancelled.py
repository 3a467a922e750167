"""Operations cancelled at each of their waits: database and disk agree, and nothing is kept for nobody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from services.engine.layers import trash
from services.protocol.api.containers import Config
from services.protocol.verbs.containers import CommitArgs
from tests.harness.cancelling import cancelled_everywhere
from tests.harness.stored import Stored
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import entry, image_archive, inside, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

ONE, TWO, LAST = (tar(entry(name, name.encode())) for name in ("one", "two", "last"))
BASE = image_archive([(["base:1"], [ONE])])
OTHER = image_archive([(["other:1"], [ONE, TWO, LAST])])
CONTAINER = "c" * 64


async def _load(s: Storage) -> None:
    await s.load(OTHER)


async def _import(s: Storage) -> None:
    await s.import_(TWO, repo="imported")


async def _commit(s: Storage) -> None:
    base = s.images.resolve("base:1").id
    await s.images.commit(CONTAINER, base, Config(), CommitArgs(CONTAINER, repo="committed"))


async def _remove(s: Storage) -> None:
    await s.load(OTHER)
    await s.images.remove("other:1", force=True, prune=True)


async def _agrees(s: Storage) -> None:
    """Helpers, and what runs in threads, come to their end after who asked for it."""
    async with asyncio.timeout(90):
        while problem := Stored(s.root, containers={CONTAINER}).problem():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                raise AssertionError(problem) from None


@pytest.mark.parametrize("operation", [_load, _import, _commit, _remove])
def test_cancelled_at_any_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: Callable[[Storage], Awaitable[None]]
) -> None:
    monkeypatch.setattr(trash, "_DELAY", 0)

    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            await s.load(BASE)
            base = s.images.resolve("base:1")
            await s.layers.create(CONTAINER, base.chain_id, {})
            inside(s.layers.mounts(CONTAINER), tmp_path / "mnt", lambda: Path("/new").write_text("new"))
            await _agrees(s)
            before = s.layer_directories()

            async def work() -> None:
                await operation(s)

            async for _ in cancelled_everywhere(work):
                await _agrees(s)
                for record in list(s.images.store):
                    if record.id != base.id:
                        await s.images.remove(record.id, force=True, prune=True)
                await _agrees(s)
                assert s.layer_directories() == before

    asyncio.run(body())
