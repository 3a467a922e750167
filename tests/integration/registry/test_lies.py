"""Manifests, indexes and configurations that are not what they say: refused in words, and nothing is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reexec.helpers import pull
from services.engine.registry import inspection
from services.protocol.errors import WharfError
from tests.integration.registry.conftest import NOBODY, layer, place
from tests.integration.registry.liar import INDEX, OCI, Liar, described, digest
from tests.integration.registry.servers import MANIFEST
from tests.integration.registry.test_faults import nothing_left

LAYER, OTHER = layer({"f": b"content" * 100}), layer({"g": b"other" * 50})
LINUX = {"os": "linux", "architecture": "amd64"}


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = Liar()
    try:
        yield made
    finally:
        made.close()


def changed(document: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    """A copy of *document* with one member replaced."""
    copy: dict[str, Any] = json.loads(json.dumps(document))
    here: Any = copy
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    return copy


def _config_size(liar: Liar) -> None:
    image = liar.image(LAYER)
    liar.manifest("1", changed(image, "config", "size", value=image["config"]["size"] - 1))


def _config_too_large(liar: Liar) -> None:
    liar.manifest("1", changed(liar.image(LAYER), "config", "size", value=1 << 40))


def _config_content(liar: Liar) -> None:
    image = liar.image(LAYER)
    key = f"x/blobs/{image['config']['digest']}"
    status, headers, data = liar.answers[key]
    liar.answers[key] = (status, headers, data.replace(b"amd64", b"arm64"))
    liar.manifest("1", image)


def _config_no_image(liar: Liar) -> None:
    image = liar.image(LAYER)
    liar.manifest("1", {**image, "config": liar.blob(b'"text"', "application/octet-stream")})


def _config_deep(liar: Liar) -> None:
    image = liar.image(LAYER)
    liar.manifest("1", {**image, "config": liar.blob(b"[" * 100_000, "application/octet-stream")})


def _layer_size(liar: Liar) -> None:
    image = liar.image(LAYER)
    liar.manifest("1", changed(image, "layers", 0, "size", value=len(LAYER) - 10))


def _layer_negative(liar: Liar) -> None:
    liar.manifest("1", changed(liar.image(LAYER), "layers", 0, "size", value=-1))


def _layer_missing(liar: Liar) -> None:
    image = liar.image(LAYER)
    del liar.answers[f"x/blobs/{digest(LAYER)}"]
    liar.manifest("1", image)


def _layer_too_many(liar: Liar) -> None:
    image = liar.image(LAYER)
    liar.manifest("1", {**image, "layers": image["layers"] * 2})


def _layer_other(liar: Liar) -> None:
    liar.manifest("1", {**liar.image(LAYER), "layers": [liar.blob(OTHER)]})


def _layer_no_archive(liar: Liar) -> None:
    liar.manifest("1", liar.image(b"no archive at all" * 100))


def _digest_odd(liar: Liar) -> None:
    liar.manifest("1", changed(liar.image(LAYER), "layers", 0, "digest", value="sha256:../../../etc/passwd"))


def _foreign(liar: Liar) -> None:
    liar.manifest("1", changed(liar.image(LAYER), "layers", 0, "urls", value=["http://127.0.0.1:1/x"]))


def _no_json(liar: Liar) -> None:
    liar.manifest("1", b"<html>not a manifest</html>")


def _deep(liar: Liar) -> None:
    liar.manifest("1", b"[" * 200_000)


def _huge(liar: Liar) -> None:
    liar.manifest("1", json.dumps(liar.image(LAYER)).encode() + b" " * (5 << 20))


def _other_digest(liar: Liar) -> None:
    liar.manifest("1", liar.image(LAYER))
    status, headers, data = liar.answers["x/manifests/1"]
    key = f"x/manifests/{headers['Docker-Content-Digest']}"
    liar.answers[key] = (status, headers, data.replace(b"2", b"3", 1))


def _schema_1(liar: Liar) -> None:
    liar.manifest(
        "1", {"schemaVersion": 1, "name": "x", "fsLayers": []}, f"{MANIFEST}".replace("v2+", "v1+pretty")
    )


def _unknown_type(liar: Liar) -> None:
    liar.manifest("1", {**liar.image(LAYER), "mediaType": "application/vnd.example.thing"})


def _plugin(liar: Liar) -> None:
    image = liar.image(LAYER)
    liar.manifest("1", changed(image, "config", "mediaType", value="application/vnd.docker.plugin.v1+json"))


def _chart(liar: Liar) -> None:
    image = {**liar.image(LAYER), "mediaType": OCI}
    config = "application/vnd.cncf.helm.config.v1+json"
    liar.manifest("1", changed(image, "config", "mediaType", value=config), OCI)


def _index(liar: Liar, *entries: dict[str, Any]) -> None:
    liar.manifest("1", {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}, INDEX)


def _other_platform(liar: Liar) -> None:
    entry = liar.manifest("arm", liar.image(LAYER))
    _index(liar, {**entry, "platform": {"os": "linux", "architecture": "s390x"}})


def _empty_index(liar: Liar) -> None:
    _index(liar)


def _index_to_nothing(liar: Liar) -> None:
    _index(liar, {**described(b"nothing", MANIFEST), "platform": LINUX})


def _nested(liar: Liar) -> None:
    entry = {**liar.manifest("one", liar.image(LAYER)), "platform": LINUX}
    inner = liar.manifest("inner", {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, INDEX)
    _index(liar, {**inner, "platform": LINUX})


def _windows(liar: Liar) -> None:
    liar.manifest("1", liar.image(LAYER, os="windows"))


CASES: list[tuple[Callable[[Liar], None], str]] = [
    (_config_size, "error pulling image configuration: image config verification failed for digest sha256:"),
    (_config_too_large, "error pulling image configuration: "),
    (
        _config_content,
        "error pulling image configuration: image config verification failed for digest sha256:",
    ),
    (_config_no_image, "invalid image JSON, no RootFS key"),
    (_config_deep, "exceeded max depth"),
    (_layer_size, "filesystem layer verification failed for digest sha256:"),
    (_layer_negative, "sha256:.* of a manifest has a negative size"),
    (_layer_missing, "blob unknown"),
    (_layer_too_many, "layers from manifest don't match image configuration"),
    (_layer_other, "layers from manifest don't match image configuration"),
    (_layer_no_archive, "failed to register layer: archive/tar: invalid tar header"),
    (_digest_odd, "invalid checksum digest"),
    (_foreign, "foreign layers are not pulled: sha256:"),
    (_no_json, "invalid manifest: "),
    (_deep, "invalid manifest: exceeded max depth"),
    (_huge, "the registry's answer is larger than 4194304 bytes"),
    (_other_digest, "manifest verification failed for digest sha256:"),
    (
        _schema_1,
        r"\[DEPRECATION NOTICE\] Docker Image Format v1 and Docker Image manifest version 2, schema 1 ",
    ),
    (_unknown_type, "unsupported manifest format: application/vnd.example.thing"),
    (_plugin, r'encountered remote "application/vnd.docker.plugin.v1\+json"\(plugin\) when fetching'),
    (_chart, r"unsupported media type application/vnd.cncf.helm.config.v1\+json"),
    (_other_platform, "no matching manifest for linux/amd64 in the manifest list entries"),
    (_empty_index, "no matching manifest for linux/amd64 in the manifest list entries"),
    (_index_to_nothing, "manifest for .*/x:1 not found: manifest unknown: manifest unknown"),
    (_nested, "unsupported manifest format: application/vnd.oci.image.index.v1"),
    (_windows, 'image operating system "windows" cannot be used on this platform'),
]


@pytest.mark.parametrize(("prepare", "text"), CASES, ids=[prepare.__name__[1:] for prepare, _ in CASES])
def test_lies(liar: Liar, tmp_path: Path, prepare: Callable[[Liar], None], text: str) -> None:
    async def body() -> None:
        async with place(tmp_path / "a") as taker:
            prepare(liar)
            with pytest.raises(WharfError, match=f"^{text}") as caught:
                await taker.pull(f"{liar.host}/x:1")
            assert "[Errno" not in str(caught.value)
            nothing_left(taker)
            # The registry's mistake is not remembered.
            liar.manifest("1", liar.image(LAYER))
            assert (await taker.pull(f"{liar.host}/x:1"))[-1]["status"].startswith(
                "Status: Downloaded newer image"
            )

    asyncio.run(body())


def test_lists_of_tags(liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "_MAX_PAGES", 20)

    async def body() -> None:
        async with place(tmp_path / "a") as taker:
            for answer, text in (
                ((200, {}, b"<html>"), "invalid list of tags: "),
                ((200, {}, b'{"tags": [1, 2]}'), "invalid list of tags: "),
                ((200, {}, b'{"tags": ["../x"]}'), "invalid tag format"),
                (
                    (200, {"Link": '</v2/x/tags/list>; rel="next"'}, b"{}"),
                    "invalid list of tags: it has no end",
                ),
            ):
                liar.answers["x/tags/list"] = answer
                with pytest.raises(WharfError, match=f"^{text}"):
                    await taker.pull(f"{liar.host}/x")
            nothing_left(taker)

    asyncio.run(body())


def test_inspection(liar: Liar, tmp_path: Path) -> None:
    """``/distribution/x/json`` of an artifact and of lies."""

    async def body() -> None:
        async with place(tmp_path / "a") as taker:
            for prepare in (_config_content, _config_deep, _no_json, _deep, _huge):
                prepare(liar)
                with pytest.raises(WharfError):
                    await inspection.inspect(taker.registry, f"{liar.host}/x:1", NOBODY)
            _index(liar, {**described(b"nothing", MANIFEST), "platform": LINUX})
            found = json.loads(await inspection.inspect(taker.registry, f"{liar.host}/x:1", NOBODY))
            assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]

    asyncio.run(body())
