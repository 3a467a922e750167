"""Orders of events in transfers that come by themselves once in a million times."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from reexec.distribution.model import Credentials, Endpoint, Session, Target
from reexec.helpers.pull import Pulled, PulledManifest, PullManifest
from services.engine.helpers import Helpers
from services.engine.images.downloads import Downloads
from services.engine.images.transferring import Context, Slots
from services.engine.registry import client, endpoints
from services.engine.registry.client import RegistryClient
from services.engine.registry.manifests import Descriptor
from services.engine.scopes import Background
from services.protocol.settings import Settings

ENDPOINT = Endpoint("http://127.0.0.1:1")
TARGET = Target([ENDPOINT], "x", Credentials())
LAYER = Descriptor("", "sha256:" + "0" * 64, 1)


async def turns(count: int = 20) -> None:
    """Everybody who can go on does so."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_slot_is_not_lost_with_the_one_it_was_offered_to() -> None:
    async def body() -> None:
        slots = Slots(lambda: 1)
        got: list[str] = []

        async def want(name: str) -> None:
            async with slots.one():
                got.append(name)

        async with slots.one():
            first, second = (asyncio.ensure_future(want(name)) for name in ("first", "second"))
            await turns()
        first.cancel()
        await turns()
        assert got == ["second"] and not slots.full
        await asyncio.gather(first, second, return_exceptions=True)

    asyncio.run(body())


class _Registry:
    """Its blobs come when they are let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def blob(self, target: Target, digest: str, fd: int, *, size: int) -> Pulled:
        await self.open.wait()
        return Pulled(Session(ENDPOINT, ""), size)


def in_downloads(root: Path, work: Callable[[Downloads, _Registry], Coroutine[Any, Any, None]]) -> None:
    async def body() -> None:
        registry, background, nothing = _Registry(), Background("test"), cast(Any, None)
        context = Context(nothing, nothing, nothing, nothing, cast(Any, registry), background, root, Settings)
        try:
            await work(Downloads(context), registry)
        finally:
            await background.close()

    asyncio.run(body())


def test_the_end_of_a_download_leaves_the_next_one_of_its_blob(tmp_path: Path) -> None:
    async def work(downloads: Downloads, registry: _Registry) -> None:
        first = downloads.join(TARGET, LAYER)
        await turns()
        leaving = asyncio.ensure_future(first.leave())
        while not first.task.cancelling():
            await asyncio.sleep(0)
        assert not first.task.done()
        second = downloads.join(TARGET, LAYER)
        assert second is not first
        await leaving
        assert first.task.cancelled()
        assert downloads.join(TARGET, LAYER) is second
        registry.open.set()
        await second.ready()
        assert second.done and second.size == 1
        for _ in range(2):
            await second.leave()
        assert not list((tmp_path / "tmp").iterdir())

    in_downloads(tmp_path, work)


def test_a_manifest_that_is_forgotten_while_the_registry_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper says that it is known: it was when the helper was asked."""
    monkeypatch.setattr(client, "_REMEMBERED", 1)

    class Answering:
        async def run(
            self, argv: Sequence[str], fds: Mapping[str, int] | None = None, *, private_mounts: bool = False
        ) -> bytes:
            arguments = msgspec.json.decode(argv[1], type=PullManifest)
            found = PulledManifest(Session(ENDPOINT, ""), arguments.reference)
            if arguments.reference in arguments.known:
                await registry.manifest(TARGET, "sha256:other")
                found = msgspec.structs.replace(found, known=True)
            return msgspec.msgpack.encode(found)

    registry = RegistryClient(cast(Helpers, Answering()), Settings)

    async def body() -> None:
        first, _ = await registry.manifest(TARGET, "sha256:one")
        again, _ = await registry.manifest(TARGET, "sha256:one")
        assert again is first

    asyncio.run(body())


def test_names_that_nobody_answers_for_hold_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def asked(host: str) -> list[Any]:
        answered.wait(90)
        return []

    monkeypatch.setattr(endpoints, "_addresses", asked)

    def asked_nothing() -> None:
        assert not answered.is_set()

    async def body() -> None:
        registry = RegistryClient(cast(Helpers, None), Settings)
        lookups = [asyncio.ensure_future(registry.indexes(f"name-{n}.invalid")) for n in range(100)]
        try:
            await asyncio.wait_for(asyncio.to_thread(asked_nothing), 60)
        finally:
            answered.set()
        for number, found in enumerate(await asyncio.gather(*lookups)):
            assert [one.url for one in found] == [f"https://name-{number}.invalid"]

    asyncio.run(body())
