"""Pull and push against a real registry on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from reexec.distribution.model import Credentials
from services.engine.images.references import parse
from services.protocol.errors import NotFound, Unauthorized, WharfError
from tests.integration.registry.conftest import NOBODY, Place, archive, layer, place
from tests.integration.registry.servers import Registry

ME, IMPOSTOR = Credentials("me", "secret"), Credentials("me", "wrong")
BASE = layer({"base": b"below" * 1000})
TOP = layer({"top": b"above" * 1000})


def statuses(lines: list[dict[str, Any]]) -> list[str]:
    """What was said, progress in bytes left out, each line once."""
    quiet = [line["status"] for line in lines if "status" in line and not line.get("progressDetail")]
    return list(dict.fromkeys(quiet))


async def published(maker: Place, name: str, *layers: bytes, **config: Any) -> list[dict[str, Any]]:
    await maker.storage.load(archive(name, *layers, **config))
    return await maker.push(name)


def run(work: Any) -> None:
    asyncio.run(work)


def test_what_is_pushed_can_be_pulled_elsewhere(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        name = f"{registry.host}/made:1"
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            pushed = await published(maker, name, BASE, TOP)
            assert statuses(pushed)[0] == f"The push refers to repository [{registry.host}/made]"
            digest = pushed[-1]["aux"]["Digest"]
            assert f"1: digest: {digest} size: {pushed[-1]['aux']['Size']}" in statuses(pushed)

            pulled = statuses(await taker.pull(name))
            assert pulled[0] == "Pulling from made"
            assert pulled[1:5] == [
                "Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete",
            ]  # fmt: skip
            assert pulled[-2:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}"]
            image = taker.storage.images.resolve(name)
            assert image.id == maker.storage.images.resolve(name).id
            inspected = taker.storage.images.inspect(name)
            assert inspected.repo_digests == [f"{registry.host}/made@{digest}"]
            assert taker.leftovers() == maker.leftovers() == []

            again = statuses(await taker.pull(name))
            assert again[-1] == f"Status: Image is up to date for {name}"

    run(body())


def test_pulled_layers_are_pushed_back_as_they_were(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        name, other = f"{registry.host}/one:1", f"{registry.host}/two:1"
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await published(maker, name, BASE, TOP)
            await taker.pull(name)
            await taker.storage.images.tag(name, f"{registry.host}/two", "1")
            pushed = statuses(await taker.push(other))
            assert "Mounted from one" in pushed
            assert "Layer already exists" in statuses(await taker.push(other))
            assert registry.manifest("one", "1") == registry.manifest("two", "1")

    run(body())


def test_the_same_layer_is_compressed_to_the_same_blob(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as first, place(tmp_path / "b") as second:
            await published(first, f"{registry.host}/one:1", BASE)
            await published(second, f"{registry.host}/one:2", BASE)
            assert "Layer already exists" in statuses(await second.push(f"{registry.host}/one:2"))
            assert registry.manifest("one", "1") == registry.manifest("one", "2")

    run(body())


def test_layers_that_are_here_are_not_downloaded(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await published(maker, f"{registry.host}/base:1", BASE)
            await published(maker, f"{registry.host}/whole:1", BASE, TOP)
            await taker.pull(f"{registry.host}/base:1")
            lines = await taker.pull(f"{registry.host}/whole:1")
            shared = registry.manifest("whole", "1")["layers"][0]["digest"].removeprefix("sha256:")[:12]
            assert [line["status"] for line in lines if line.get("id") == shared] == ["Already exists"]

    run(body())


def test_pulls_of_one_image_are_one(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        name = f"{registry.host}/joined:1"
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await published(maker, name, BASE, TOP)
            answers = await asyncio.gather(*(taker.pull(name) for _ in range(5)))
            assert all(f"Status: Downloaded newer image for {name}" in statuses(a) for a in answers)
            assert taker.storage.helpers.calls.count("docker-applylayer") == 2
            assert taker.storage.helpers.calls.count("docker-pull-manifest") == 1

    run(body())


def test_all_tags(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        repository = f"{registry.host}/many"
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await maker.storage.load(archive(f"{repository}:1", BASE))
            await maker.storage.load(archive(f"{repository}:2", TOP))
            await maker.push(repository)
            pulled = statuses(await taker.pull(repository))
            assert taker.storage.names() == [f"{repository}:1", f"{repository}:2"]
            told = [line for line in pulled if line.startswith("Status")]
            assert told == [f"Status: Downloaded newer image for {repository}"]
            again = statuses(await taker.pull(repository))
            assert again[-1] == f"Status: Image is up to date for {repository}"
            assert not any(line == f"Status: Image is up to date for {repository}:1" for line in again)
            # One event for what was asked for.
            assert maker.events() == [("push", repository, repository)]
            assert taker.events() == [("pull", repository, repository)] * 2
            await taker.pull(f"{repository}:1")
            assert taker.events()[-1] == ("pull", f"{repository}:1", repository)

    run(body())


def test_platform_of_an_index(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        repository = f"{registry.host}/multi"
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            entries = []
            for architecture in ("arm64", "amd64"):
                await published(maker, f"{repository}:{architecture}", BASE, architecture=architecture)
                aux = (await maker.push(f"{repository}:{architecture}"))[-1]["aux"]
                entries.append(
                    {
                        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                        "digest": aux["Digest"],
                        "size": aux["Size"],
                        "platform": {"os": "linux", "architecture": architecture},
                    }
                )
            index = "application/vnd.oci.image.index.v1+json"
            document = {"schemaVersion": 2, "mediaType": index, "manifests": entries}
            digest = registry.put_manifest("multi", "all", document, index)
            assert f"Digest: {digest}" in statuses(await taker.pull(f"{repository}:all"))
            assert taker.storage.images.resolve(f"{repository}:all").architecture == "amd64"
            await taker.pull(f"{repository}:all", platform="linux/arm64/v8")
            assert taker.storage.images.resolve(f"{repository}:all").architecture == "arm64"
            with pytest.raises(NotFound, match="^no matching manifest for linux/s390x in the manifest list"):
                await taker.pull(f"{repository}:all", platform="linux/s390x")

    run(body())


def test_passwords(tmp_path: Path, needs_registry: None) -> None:
    async def body(registry: Registry) -> None:
        name = f"{registry.host}/private:1"
        async with place(tmp_path / "a") as maker:
            await maker.storage.load(archive(name, BASE))
            with pytest.raises(WharfError, match="^no basic auth credentials$"):
                await maker.push(name)
            with pytest.raises(Unauthorized, match="^unauthorized: authentication required$"):
                await maker.push(name, IMPOSTOR)
            await maker.push(name, ME)
            await maker.remove(name)
            with pytest.raises(WharfError, match='^Head "http://.*": no basic auth credentials$'):
                await maker.pull(name)
            with pytest.raises(Unauthorized, match="^unauthorized: authentication required$"):
                await maker.pull(name, IMPOSTOR)
            await maker.pull(name, ME)
            assert await maker.registry.login(registry.host, ME) == ""
            with pytest.raises(WharfError, match="failed with status: 401 Unauthorized$"):
                await maker.registry.login(registry.host, IMPOSTOR)

    root = tmp_path / "registry"
    root.mkdir()
    registry = Registry(root, password=True)
    try:
        run(body(registry))
    finally:
        registry.close()


def test_tls(tmp_path: Path, needs_registry: None) -> None:
    """Loopback is insecure: its certificate is not checked. Any other name's is."""

    async def body(registry: Registry) -> None:
        name = f"{registry.host}/secret:1"
        async with place(tmp_path / "a") as maker:
            await published(maker, name, BASE)
            await maker.remove(name)
            assert f"Status: Downloaded newer image for {name}" in statuses(await maker.pull(name))

    root = tmp_path / "registry"
    root.mkdir()
    registry = Registry(root, tls=True)
    try:
        run(body(registry))
    finally:
        registry.close()


def test_what_is_not_there(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as taker:
            name = f"{registry.host}/nosuch:1"
            text = f"manifest for {name} not found: manifest unknown: manifest unknown"
            with pytest.raises(NotFound, match=f"^{text}$"):
                await taker.pull(name)
            with pytest.raises(NotFound, match="^An image does not exist locally with the tag: "):
                await taker.push(name)
            with pytest.raises(WharfError, match="dial tcp 127.0.0.1:1: connect: connection refused$"):
                await taker.pull("127.0.0.1:1/x:1")
            await taker.storage.load(archive("127.0.0.1:1/x:1", BASE))
            pushed = taker.transfers.pusher.push(parse("127.0.0.1:1/x:1"), NOBODY)
            assert b"The push refers to repository [127.0.0.1:1/x]" in await anext(pushed)
            with pytest.raises(WharfError, match="dial tcp 127.0.0.1:1: connect: connection refused$"):
                await anext(pushed)  # at once, and nothing was prepared

    run(body())


def test_by_digest(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        name = f"{registry.host}/dig"
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            digest = (await published(maker, f"{name}:1", BASE))[-1]["aux"]["Digest"]
            lines = await taker.pull(f"{name}@{digest}")
            assert lines[0] == {"status": "Pulling from dig", "id": f"{name}@{digest}"}
            assert taker.storage.images.resolve(f"{name}@{digest}").id
            assert taker.storage.images.inspect(f"{name}@{digest}").repo_tags == []

    run(body())


def test_manifest_that_lies_about_its_layers(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        name = f"{registry.host}/lie"
        async with place(tmp_path / "a") as maker, place(tmp_path / "b") as taker:
            await published(maker, f"{name}:1", BASE, TOP)
            document = registry.manifest("lie", "1")
            fewer = {**document, "layers": document["layers"][:1]}
            swapped = {**document, "layers": document["layers"][::-1]}
            short = json.loads(json.dumps(document))
            short["layers"][1]["size"] -= 1
            cases = {
                "fewer": (fewer, "layers from manifest don't match image configuration"),
                "swapped": (swapped, "layers from manifest don't match image configuration"),
                "short": (short, "filesystem layer verification failed for digest sha256:"),
            }
            for tag, (lie, text) in cases.items():
                registry.put_manifest("lie", tag, lie)
                with pytest.raises(WharfError, match=f"^{text}"):
                    await taker.pull(f"{name}:{tag}")
                assert taker.storage.names() == []
                assert taker.leftovers() == []
                await taker.storage.layers.sweep(set())
                assert not [d for d in taker.storage.layer_directories() if not d.startswith("0" * 64)]

    run(body())


def test_blob_digests_are_those_of_their_content(registry: Registry, tmp_path: Path) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as maker:
            await published(maker, f"{registry.host}/sum:1", BASE)
        (found,) = registry.manifest("sum", "1")["layers"]
        data = registry.blob(found["digest"]).read_bytes()
        assert found["digest"] == "sha256:" + hashlib.sha256(data).hexdigest()
        assert found["size"] == len(data)

    run(body())
