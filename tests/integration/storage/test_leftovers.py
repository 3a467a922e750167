"""What cannot be removed does not keep the rest, and what nobody comes for does not stay."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from reexec.call import Call
from reexec.helpers import remove
from services.engine.images import saving
from services.engine.images.scratch import Scratch
from services.engine.layers import trash
from services.engine.scopes import Background
from services.protocol.errors import SystemError_, Unavailable
from services.protocol.fdpass import Handover
from tests.integration.storage.storage import storage
from tests.suites.trees import entry, image_archive, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

ARCHIVE = image_archive([(["a:1"], [tar(entry("f", b"1"))])])


def test_a_path_that_cannot_be_removed_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = remove.remove

    def refused(path: str) -> None:
        if path.endswith("held"):
            raise SystemError_("cannot remove held: Device or resource busy")
        whole(path)

    monkeypatch.setattr(remove, "remove", refused)
    paths = [tmp_path / name for name in ("a", "held", "z")]
    for path in paths:
        path.mkdir()
    with pytest.raises(SystemError_, match="cannot remove held"):
        remove.main(Call(["docker-remove", *map(str, paths)]))
    assert os.listdir(tmp_path) == ["held"]


class Refusing:
    """Helpers that remove all but what is called "held"."""

    async def run(
        self, argv: Sequence[str], fds: Mapping[str, int] | None = None, *, private_mounts: bool = False
    ) -> bytes:
        for path in map(Path, argv[1:]):
            if path.name.startswith("held"):
                raise SystemError_("cannot remove held: Device or resource busy")
            path.rmdir()
        return b""

    def handover(self, argv: Sequence[str]) -> Handover:
        raise NotImplementedError


def test_a_batch_that_cannot_be_removed_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_DELAY", 0), ("_RETRY", 0), ("_BATCH", 1)):
        monkeypatch.setattr(trash, name, value)
    for name in ("a", "held1", "m", "held2", "z"):
        (tmp_path / name).mkdir()

    async def body() -> None:
        background = Background("test")
        trash.Trash(tmp_path, Refusing(), background).kick()
        await background.drain()

    asyncio.run(body())
    assert sorted(os.listdir(tmp_path)) == ["held1", "held2"]


def test_what_a_start_cannot_sweep_does_not_keep_the_rest(tmp_path: Path) -> None:
    strangers = {f"{number:064x}" for number in range(1, 6)}
    held = f"{3:064x}"

    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            whole = s.layers.driver.discard

            def refused(layer: str) -> None:
                if layer == held:
                    raise PermissionError(1, "Operation not permitted")
                whole(layer)

            for layer in strangers:
                await s.layers.create(layer, "", {})
            s.layers.driver.discard = refused  # type: ignore[method-assign]
            await s.layers.sweep(set())
            assert s.layer_directories() & strangers == {held}
            s.layers.driver.discard = whole  # type: ignore[method-assign]
            await s.layers.sweep(set())
            assert s.layer_directories() & strangers == set()
            await s.store.write(lambda _: None)  # queued behind the removal, which nobody waits for
            assert s.store.load("SELECT container_id FROM rw_layers") == []

    asyncio.run(body())


def test_a_directory_made_for_a_cancelled_transfer_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, made = threading.Event(), threading.Event()
    make = tempfile.mkdtemp

    def slow(**options: object) -> str:
        begun.set()
        assert made.wait(60)
        return make(**options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(tempfile, "mkdtemp", slow)

    async def transfer(scratch: Scratch) -> None:
        async with scratch.directory():
            await asyncio.sleep(60)

    async def body() -> None:
        task = asyncio.ensure_future(transfer(Scratch(tmp_path, "load-")))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0)
        made.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(body())
    assert os.listdir(tmp_path / "tmp") == []


def test_a_plan_that_no_helper_reads_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "PLAN_LIFETIME", 0.01)

    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            await s.load(ARCHIVE)
            s.images.save(["a:1"])
            async with asyncio.timeout(60):
                while os.listdir(s.root / "tmp") != ["root"]:
                    await asyncio.sleep(0.01)

    asyncio.run(body())


def test_an_init_layer_whose_helper_is_killed_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as s:

            async def killed(*_: object, **__: object) -> bytes:
                raise Unavailable("docker-initlayer was killed")

            with monkeypatch.context() as patched:
                patched.setattr(s.helpers, "run", killed)
                with pytest.raises(Unavailable):
                    await s.layers.create("c" * 64, "", {})
            assert s.layer_directories() == set()
            await s.layers.create("c" * 64, "", {})
            assert s.layer_directories() == {"c" * 64, "0" * 64 + "-init"}

    asyncio.run(body())
