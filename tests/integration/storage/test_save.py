"""``docker save``: every layer comes back byte for byte, whoever wrote its archive."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from services.engine.images.references import parse
from services.protocol.errors import Conflict, InvalidParameter, NotFound, WharfError
from services.protocol.helpers import HelperRequest
from tests.integration.storage.conftest import Home
from tests.integration.storage.storage import Storage, storage
from tests.suites.trees import digest, directory, entry, hardlink, image_archive, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

FILES = (
    directory("d"),
    entry("d/big", os.urandom(3_000_000)),
    entry("d/empty"),
    entry("odd", b"x" * 511, uid=70000, pax_headers={"SCHILY.xattr.user.a": "b"}),
    symlink("l", "d"),
    entry("l/through-a-link", b"12345"),
    hardlink("h", "odd"),
    entry("n" * 150, b"long name"),
    entry(".wh.deleted"),
)
LAYERS = {
    "pax": tar(*FILES),
    "gnu": tar(*FILES, format=tarfile.GNU_FORMAT),
    "bytes behind the end": tar(*FILES) + b"\0" * 3000 + b"rubbish",
    "empty": tar(),
    "nothing": b"",
}


def run(tmp_path: Path, test: Callable[[Storage], Awaitable[None]], driver: str = "overlay2") -> None:
    async def body() -> None:
        async with storage(tmp_path / "root", driver) as made:
            await test(made)

    asyncio.run(body())


async def save(s: Storage, *names: str) -> bytes:
    request = msgspec.msgpack.decode(s.images.save(list(names)).payload, type=HelperRequest)
    with tempfile.TemporaryFile() as file:
        await s.helpers.run(request.argv, {"stdout": file.fileno()})
        file.seek(0)
        return file.read()


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {m.name: opened.extractfile(m).read() for m in opened if m.isfile()}  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_come_back_as_they_were(kind: str, home: Home) -> None:
    async def test(s: Storage) -> None:
        layers = [tar(entry("deleted", b"1")), LAYERS[kind]]
        assert (await s.load(image_archive([(["a:1"], layers)])))[0] == {"stream": "Loaded image: a:1\n"}
        before = s.images.inspect("a:1")
        archive = await save(s, "a:1")
        files = contents(archive)
        for layer in layers:
            assert files["blobs/sha256/" + digest(layer)[7:]] == layer
        await s.images.remove("a:1", force=False, prune=True)
        assert os.listdir(s.root / "image" / home.driver / "layerdb") == []
        assert (await s.load(archive))[0] == {"stream": "Loaded image: a:1\n"}
        assert s.images.inspect("a:1").id == before.id

    run(home.root, test, home.driver)


def test_an_imported_compressed_archive_is_saved_uncompressed(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.import_(gzip.compress(LAYERS["gnu"]), repo="i")
        files = contents(await save(s, "i"))
        assert files["blobs/sha256/" + digest(LAYERS["gnu"])[7:]] == LAYERS["gnu"]

    run(tmp_path, test)


def test_which_images_and_names(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.load(image_archive([(["a:1", "a:2", "b:1"], [LAYERS["pax"]])]))

        async def names(*asked: str) -> list[object]:
            manifest = msgspec.json.decode(contents(await save(s, *asked))["manifest.json"])
            return [item["RepoTags"] for item in manifest]

        assert await names("a") == [["a:1", "a:2"]]
        assert await names("a:1", "b:1") == [["a:1", "b:1"]]
        assert await names(s.images.resolve("a:1").id) == [None]
        by_digest = parse(f"d@{digest(b'')}")
        await s.images.store.tag(by_digest, s.images.resolve("a:1").id)
        assert await names("d") == await names(str(by_digest)) == [None]
        absent = "sha256:" + "0" * 64
        for asked, message in (
            ("nosuch", "^No such image: nosuch$"),
            ("sha256:0123", "^No such image: sha256:0123$"),
            ("a:3", "^reference does not exist$"),
            (absent, f"^failed to get digest {absent}: open .*/{'0' * 64}: no such file or directory$"),
        ):
            with pytest.raises(NotFound, match=message):
                s.images.save([asked])
        with pytest.raises(InvalidParameter, match="must be lowercase"):
            s.images.save(["Bad"])
        assert os.listdir(s.root / "tmp") == ["root"]

    run(tmp_path, test)


def test_lineage_comes_back(tmp_path: Path) -> None:
    below, above = tar(entry("f", b"1")), tar(entry("g", b"2"))

    async def test(s: Storage) -> None:
        await s.load(image_archive([(["below:1"], [below]), (["above:1"], [below, above])]))
        parent, child = s.images.resolve("below:1").id, s.images.resolve("above:1").id
        await s.images.store.adopt(child, parent)
        archive = await save(s, "above:1", "below:1")
        alone = contents(await save(s, "above:1"))
        assert "Parent" not in msgspec.json.decode(alone["manifest.json"])[0]
        # Two layers, a document of old for each of them, the configuration and the manifest.
        assert len([name for name in alone if name.startswith("blobs/")]) == 6
        await s.images.remove("above:1", force=False, prune=True)
        await s.images.remove("below:1", force=False, prune=True)
        await s.load(archive)
        assert s.images.inspect("above:1").parent == parent
        with pytest.raises(Conflict, match="image has dependent child images"):
            await s.images.remove(parent, force=True, prune=True)

    async def restarted(s: Storage) -> None:
        assert s.images.inspect("above:1").parent == s.images.resolve("below:1").id

    run(tmp_path, test)
    run(tmp_path, restarted)


def test_a_damaged_layer_is_not_passed_off_as_whole(tmp_path: Path) -> None:
    async def test(s: Storage) -> None:
        await s.load(image_archive([(["a:1"], [LAYERS["pax"]])]))
        layer = s.layers.chains.get(s.images.resolve("a:1").chain_id)
        place = s.layers.driver.extraction(layer.cache_id).directory
        (place / "l" / "through-a-link").write_text("54321")
        with pytest.raises(WharfError, match="cannot be put together"):
            await save(s, "a:1")

    run(tmp_path, test)
