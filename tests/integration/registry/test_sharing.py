"""Layers that come side by side, and pulls that want the same ones."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from services.engine.layers.chains import Chains
from services.protocol.verbs.containers import CommitArgs
from tests.harness.groups import kill_group
from tests.integration.registry.conftest import Place, archive, layer, place
from tests.integration.registry.servers import Fault, Proxy, Registry
from tests.integration.registry.test_faults import nothing_left
from tests.integration.registry.test_pull_push import published, run, statuses

SHARED = layer({"shared": os.urandom(100_000)})
ONE, TWO = layer({"one": os.urandom(1000)}), layer({"two": os.urandom(1000)})


class Gate:
    """A fault that keeps the requests for one blob waiting until it is opened."""

    def __init__(self, digest: str) -> None:
        self._digest = digest
        self._open = threading.Event()
        self.asked = 0

    def __call__(self, method: str, path: str) -> Fault | None:
        if method == "GET" and self._digest in path:
            self.asked += 1
            self._open.wait(90)
        return None

    def open(self) -> None:
        self._open.set()

    async def reached(self) -> None:
        while not self.asked:
            await asyncio.sleep(0.01)


async def prepared(maker: Place, registry: Registry) -> str:
    """``one:1`` and ``two:1`` on the same layer, whose blob's digest is returned."""
    await published(maker, f"{registry.host}/one:1", SHARED, ONE)
    await published(maker, f"{registry.host}/two:1", SHARED, TWO)
    return str(registry.manifest("one", "1")["layers"][0]["digest"])


def extractions(taker: Place) -> int:
    return taker.storage.helpers.calls.count("docker-applylayer")


async def extracted(taker: Place, count: int) -> None:
    """So many layers are, but not what they are on."""
    while extractions(taker) < count or "docker-applylayer" in taker.storage.helpers.running():
        await asyncio.sleep(0.01)


def test_a_layer_of_two_pulls_comes_once(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            gate = proxy.fault = Gate(await prepared(maker, registry))
            pulls = [asyncio.ensure_future(taker.pull(f"{proxy.host}/{name}:1")) for name in ("one", "two")]
            await extracted(taker, 2)
            assert taker.storage.layers.chains.total_size() == 0, "nothing is there before what it is on"
            gate.open()
            for lines in await asyncio.gather(*pulls):
                told = statuses(lines)
                assert told[-1].startswith("Status: Downloaded newer image")
                own = [line["status"] for line in lines if line.get("id") == gate._digest[7:19]]
                assert own[0] == "Pulling fs layer" and own[-1] == "Pull complete" and "Extracting" in own
            assert gate.asked == 1 and extractions(taker) == 3
            for name in ("one", "two"):
                await taker.remove(f"{proxy.host}/{name}:1")
            nothing_left(taker)

    run(body())


def test_the_pull_that_began_a_download_may_end(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            gate = proxy.fault = Gate(await prepared(maker, registry))
            first = asyncio.ensure_future(taker.pull(f"{proxy.host}/one:1"))
            await gate.reached()
            second = asyncio.ensure_future(taker.pull(f"{proxy.host}/two:1"))
            await extracted(taker, 2)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            gate.open()
            assert statuses(await second)[-1].startswith("Status: Downloaded newer image")
            assert gate.asked == 1
            assert taker.storage.names() == [f"{proxy.host}/two:1"]
            assert len(taker.storage.layer_directories()) == 2 and taker.leftovers() == []

    run(body())


def test_a_pull_that_is_ending_is_not_joined(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            gate = proxy.fault = Gate(await prepared(maker, registry))
            first = asyncio.ensure_future(taker.pull(f"{proxy.host}/one:1"))
            await gate.reached()
            first.cancel()
            second = asyncio.ensure_future(taker.pull(f"{proxy.host}/one:1"))
            gate.open()
            assert statuses(await second)[-1].startswith("Status: Downloaded newer image")
            assert first.cancelled()
            assert not taker.transfers.puller._running and taker.leftovers() == []

    run(body())


def test_a_layer_that_somebody_else_registers_just_now(
    registry: Registry, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at what is there and the beginning of the making, whose blob is not needed then."""

    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await published(maker, f"{registry.host}/one:1", ONE)
            await taker.storage.load(archive("loaded:1", ONE, author="somebody"))
            looks = iter([False])
            there = Chains.__contains__
            monkeypatch.setattr(
                Chains, "__contains__", lambda chains, chain: next(looks, there(chains, chain))
            )
            lines = statuses(await taker.pull(f"{registry.host}/one:1"))
            assert lines[-1].startswith("Status:")
            assert next(looks, None) is None and taker.leftovers() == []

    run(body())


def test_one_layer_twice_in_an_image(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await published(maker, f"{registry.host}/same:1", ONE, ONE, TWO, ONE)
            await taker.pull(f"{proxy.host}/same:1")
            digest = registry.manifest("same", "1")["layers"][0]["digest"]
            assert len([1 for method, path, _, _ in proxy.seen if method == "GET" and digest in path]) == 1
            chain = taker.storage.images.resolve(f"{proxy.host}/same:1").chain_id
            assert len(taker.storage.layers.chains.lineage(chain)) == 4
            await taker.remove(f"{proxy.host}/same:1")
            nothing_left(taker)

    run(body())


def _engine(root: Path, host: str, ready: int) -> None:
    """Pulls, commits and removes for ever, until it is killed."""

    async def body() -> None:
        async with place(root) as p:
            os.write(ready, b"1")
            for number in range(1_000_000):
                await asyncio.gather(p.pull(f"{host}/one:1"), p.pull(f"{host}/two:1"))
                image = p.storage.images.resolve(f"{host}/one:1")
                container = f"{number:064x}"
                await p.storage.layers.create(container, image.chain_id, {})
                upper = p.storage.layers.driver.difference(container)
                assert upper is not None
                (upper / "changed").write_text(str(number))
                arguments = CommitArgs(ref=container, repo="committed")
                await p.storage.images.commit(container, image.id, image.config, arguments)
                await p.storage.layers.remove(container)
                await p.remove(f"{host}/one:1")
                await p.storage.images.remove("committed", force=True, prune=True)
                await p.remove(f"{host}/two:1")

    asyncio.run(body())


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.25, 0.35, 0.45, 0.6, 0.8])
def test_an_engine_that_is_killed(registry: Registry, tmp_path: Path, delay: float) -> None:
    """In a pull, a commit or a removal: what is named is whole, and nothing else is there."""
    root = tmp_path / "root"

    async def prepare() -> None:
        async with place(tmp_path / "a") as maker:
            await prepared(maker, registry)

    asyncio.run(prepare())
    reading, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            _engine(root, registry.host, ready)
        finally:
            os._exit(1)
    os.close(ready)
    assert os.read(reading, 1) == b"1"
    os.close(reading)
    threading.Event().wait(delay)
    assert os.WIFSIGNALED(kill_group(pid)), "it ended before it was killed"

    async def check() -> None:
        async with place(root) as p:
            chains = p.storage.layers.chains
            used = {
                one.cache_id for record in p.storage.images.store for one in chains.lineage(record.chain_id)
            }
            kept = {name for name in p.storage.layer_directories() if not name.endswith("-init")}
            assert kept == used == chains.directories()
            splits = os.listdir(root / "image" / "overlay2" / "layerdb")
            assert {name.removesuffix(".split") for name in splits} == used
            assert os.listdir(root / "tmp") == ["root"]
            # Every layer that is there can be put together again: it is whole.
            for record in p.storage.images.store:
                p.storage.images.save([record.id])
                for one in chains.lineage(record.chain_id):
                    saved, size = chains.saved(one.chain_id)
                    assert size and Path(saved.directory).is_dir()
            assert await p.pull(f"{registry.host}/one:1")
            assert await p.pull(f"{registry.host}/two:1")

    asyncio.run(check())
