"""What a pull and a push do when the road to the registry is bad."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from services.protocol.errors import WharfError
from tests.integration.registry.conftest import Place, archive, layer, place
from tests.integration.registry.servers import MANIFEST, Fault, Proxy, Registry
from tests.integration.registry.test_pull_push import BASE, published, run, statuses

#: Does not compress, and is read in several blocks.
NOISE = layer({"noise": os.urandom(700_000)})


class Times:
    """A fault for the first so many requests for blobs' contents."""

    def __init__(self, times: int, method: str = "GET", **fault: Any) -> None:
        self.left = times
        self.method = method
        self.fault = Fault(**fault)
        self.only = ""

    def __call__(self, method: str, path: str) -> Fault | None:
        if method == self.method and "/blobs/" in path and self.only in path and self.left:
            self.left -= 1
            return self.fault
        return None


async def prepared(maker: Place, registry: Registry, name: str, *layers: bytes) -> str:
    """Pushed past the proxy; returns the digest of the top layer's blob."""
    await published(maker, f"{registry.host}/{name}:1", *layers)
    return str(registry.manifest(name, "1")["layers"][-1]["digest"])


def nothing_left(place_: Place) -> None:
    assert place_.storage.names() == []
    assert place_.leftovers() == []
    assert not [d for d in place_.storage.layer_directories() if not d.startswith("0" * 64)]


def test_cut_download_goes_on_where_it_was(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            digest = await prepared(maker, registry, "cut", NOISE)
            fault = Times(2, cut=300_000)
            fault.only = digest
            proxy.fault = fault
            lines = statuses(await taker.pull(f"{proxy.host}/cut:1"))
            assert lines[-1].startswith("Status: Downloaded newer image")
            ranges = [r for method, path, r, _ in proxy.seen if method == "GET" and digest in path]
            assert ranges[0] == "" and len(ranges) == 3
            begins = [int(text.removeprefix("bytes=").rstrip("-")) for text in ranges[1:]]
            assert 0 < begins[0] <= 300_000 < begins[1] <= 600_000

    run(body())


@pytest.mark.parametrize("status", [500, 503, 429])
def test_servers_trouble_is_waited_out(registry: Registry, proxy: Proxy, tmp_path: Path, status: int) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            fault = Times(3, status=status)
            fault.only = await prepared(maker, registry, "busy", BASE)
            proxy.fault = fault
            assert await taker.pull(f"{proxy.host}/busy:1")
            assert fault.left == 0

    run(body())


def test_attempts_end(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            fault = Times(100, status=500)
            fault.only = await prepared(maker, registry, "dead", BASE)
            proxy.fault = fault
            with pytest.raises(WharfError, match="^received unexpected HTTP status: 500 Internal Server"):
                await taker.pull(f"{proxy.host}/dead:1")
            assert fault.left == 100 - taker.settings.max_download_attempts
            nothing_left(taker)

    run(body())


def test_wrong_content_is_not_taken(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            digest = await prepared(maker, registry, "wrong", BASE)
            real = registry.blob(digest).read_bytes()
            for spoiled in (b"x" + real[1:], real + b"more"):
                fault = Times(1, body=spoiled)
                fault.only = digest
                proxy.fault = fault
                with pytest.raises(WharfError, match=f"^filesystem layer verification failed .* {digest}$"):
                    await taker.pull(f"{proxy.host}/wrong:1")
                nothing_left(taker)
            assert await taker.pull(f"{proxy.host}/wrong:1")

    run(body())


def test_wrong_configuration_is_not_taken(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await prepared(maker, registry, "conf", BASE)
            config = registry.manifest("conf", "1")["config"]
            fault = Times(1, body=b"{" + b" " * (config["size"] - 1))
            fault.only = config["digest"]
            proxy.fault = fault
            text = "^error pulling image configuration: image config verification failed for digest "
            with pytest.raises(WharfError, match=text + config["digest"]):
                await taker.pull(f"{proxy.host}/conf:1")
            nothing_left(taker)

    run(body())


def test_truncated_gzip_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    """The blob is what its digest says, but no whole archive."""

    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            name = f"{registry.host}/torn:1"
            digest = await prepared(maker, registry, "torn", NOISE)
            half = gzip.compress(NOISE)[:300_000]
            torn = "sha256:" + hashlib.sha256(half).hexdigest()
            target = await maker.registry.target(_reference(name), _nobody(), push=True)
            fd = os.memfd_create("torn")
            try:
                os.pwrite(fd, half, 0)
                await maker.registry.push_blob(target, torn, fd, len(half))
            finally:
                os.close(fd)
            document = registry.manifest("torn", "1")
            assert document["layers"][0]["digest"] == digest
            document["layers"][0] |= {"digest": torn, "size": len(half)}
            registry.put_manifest("torn", "1", document, MANIFEST)
            with pytest.raises(WharfError, match="^failed to register layer: unexpected EOF$"):
                await taker.pull(name)
            nothing_left(taker)

    run(body())


def _reference(name: str) -> Any:
    from services.engine.images.references import parse

    return parse(name)


def _nobody() -> Any:
    from reexec.distribution.model import Credentials

    return Credentials()


def test_upload_is_repeated(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker:
            name = f"{proxy.host}/up:1"
            await maker.storage.load(archive(name, NOISE))
            proxy.fault = Times(2, "PUT", status=503)
            assert "Pushed" in statuses(await maker.push(name))
            assert registry.manifest("up", "1")["layers"]
            assert maker.leftovers() == []

    run(body())


def test_clients_that_go_away(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    """The last one takes its pull along; another one keeps it."""

    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            digest = await prepared(maker, registry, "gone", NOISE)
            fault = Times(1000, status=503)
            fault.only = digest
            proxy.fault = fault
            taker.settings = type(taker.settings)(max_download_attempts=1000)
            clients = [asyncio.ensure_future(taker.pull(f"{proxy.host}/gone:1")) for _ in range(2)]
            while not any(digest in path for _, path, _, _ in proxy.seen):
                await asyncio.sleep(0.01)
            clients[0].cancel()
            await asyncio.gather(clients[0], return_exceptions=True)
            assert taker.transfers.puller._running
            proxy.fault = lambda method, path: None
            assert statuses(await clients[1])[-1].startswith("Status: Downloaded")

            await taker.remove(f"{proxy.host}/gone:1")
            proxy.fault, seen = fault, len(proxy.seen)
            alone = asyncio.ensure_future(taker.pull(f"{proxy.host}/gone:1"))
            while not any(digest in path for _, path, _, _ in proxy.seen[seen:]):
                await asyncio.sleep(0.01)
            alone.cancel()
            await asyncio.gather(alone, return_exceptions=True)
            assert not taker.transfers.puller._running
            async with asyncio.timeout(90):  # what was removed before is freed in the background
                while taker.storage.helpers.pids:
                    await asyncio.sleep(0.01)
            nothing_left(taker)

    run(body())


def test_mirrors_come_first_and_may_fail(registry: Registry, proxy: Proxy, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await prepared(maker, registry, "library/mirrored", BASE)
            dead = "http://127.0.0.1:1"
            taker.settings = type(taker.settings)(registry_mirrors=[dead, f"http://{proxy.host}/"])
            lines = statuses(await taker.pull("mirrored:1"))
            assert lines[-1] == "Status: Downloaded newer image for mirrored:1"
            assert taker.storage.names() == ["mirrored:1"]

    run(body())
