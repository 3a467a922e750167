"""Small archives that become large ones: refused in time, and nothing is left of them."""

from __future__ import annotations

import asyncio
import io
import lzma
import os
import resource
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from reexec.archive import bounds, streams
from reexec.helpers.load import unpack
from services.protocol.errors import WharfError
from tests.integration.storage.storage import storage
from tests.integration.storage.test_extract import apply
from tests.suites.trees import entry, image_archive, in_child, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

ZEROS = tar(entry("zeros", bytes(3 << 20)))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    top.mkdir()
    return top


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HARMLESS", 1 << 20)
    monkeypatch.setattr(bounds, "_LOOK", 1 << 18)


def test_more_than_gzip_could_make_is_refused(tree: Path, little: None) -> None:
    with pytest.raises(WharfError, match=r"^archive is refused: \d+ bytes of it become more than \d+ "):
        apply(tree, zstandard.ZstdCompressor(level=19).compress(ZEROS))
    apply(tree, ZEROS)


def test_a_bomb_in_an_image_leaves_nothing(tmp_path: Path, little: None) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            bomb = zstandard.ZstdCompressor(level=19).compress(image_archive([(["b:1"], [ZEROS])]))
            (answer,) = await s.load(bomb)
            assert str(answer["error"]).startswith("archive is refused: ")
            assert s.names() == [] and s.layer_directories() == set()
            assert os.listdir(s.root / "tmp") == ["root"]

    asyncio.run(body())


def test_room_is_left_on_the_device(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=99, f_blocks=10_000, f_frsize=4096, f_files=0, f_favail=0)

    def many(fd: int) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=5_000, f_blocks=10_000, f_frsize=4096, f_files=5_000, f_favail=49)

    for answer in (full, many):
        monkeypatch.setattr(os, "fstatvfs", answer)
        with pytest.raises(WharfError, match="^no space left on device$"):
            apply(tree, tar(entry("f", b"1")))


def test_a_dictionary_that_would_fill_the_memory_is_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_MEMORY", 1 << 20)
    with pytest.raises(WharfError, match="^archive is not readable: Memory usage limit"):
        apply(tree, lzma.compress(ZEROS, preset=6))


@pytest.mark.parametrize("padding", [b"", bytes(4), bytes(1 << 18)])
def test_streams_of_xz_follow_each_other(tree: Path, padding: bytes) -> None:
    archive = tar(entry("f", os.urandom(300_000)))
    stored = lzma.compress(archive[:1000]) + padding + lzma.compress(archive[1000:]) + padding
    assert apply(tree, stored).archive_size == len(archive)


def test_a_block_of_zstd_does_not_fill_the_memory() -> None:
    """A gigabyte of zeros in 32 KiB, read in pieces."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    stored = b"".join([*(compressor.compress(bytes(1 << 24)) for _ in range(64)), compressor.flush()])
    assert len(stored) < 1 << 17

    def read() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        source, size = streams.decompressed(io.BytesIO(stored)), 0
        while data := source.read(streams.BLOCK):
            size += len(data)
        assert size == 1 << 30
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert in_child(read) < 300 << 10


def sparse(places: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    """A GNU 1.0 sparse file."""
    numbers = [len(places), *(number for place in places for number in place)]
    table = "".join(f"{number}\n" for number in numbers).encode()
    body = table + bytes(-len(table) % 512) + data
    info = tarfile.TarInfo("GNUSparseFile.0/s")
    info.size = len(body)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "s",
        "GNU.sparse.realsize": str(size),
    }
    return tar((info, body))


def test_holes_stay_holes(tree: Path) -> None:
    apply(tree, sparse([(1 << 30, 3), (2 << 30, 3)], 1 << 40, b"abcdef"))
    found = os.stat(tree / "s")
    assert found.st_size == 1 << 40 and found.st_blocks < 100
    with (tree / "s").open("rb") as file:
        for offset, data in ((0, bytes(3)), (1 << 30, b"abc"), (2 << 30, b"def")):
            file.seek(offset)
            assert file.read(3) == data


@pytest.mark.parametrize("places", [[(8, 3), (4, 3)], [(0, 6), (3, 6)], [(95, 6)]])
def test_maps_of_sparse_files_that_lie_are_refused(tree: Path, places: list[tuple[int, int]]) -> None:
    with pytest.raises(WharfError, match="^archive/tar: invalid tar header"):
        apply(tree, sparse(places, 100, b"abcdef" * 2))


def test_holes_of_a_loaded_archive_stay_holes(tmp_path: Path) -> None:
    """A few hundred bytes may claim gigabytes of zeros: they must not become blocks of the disk."""
    with tempfile.TemporaryFile() as archive:
        archive.write(sparse([(1 << 20, 3)], 8 << 30, b"abc"))
        archive.seek(0)
        assert unpack(str(tmp_path), archive.fileno()).files == {"s": 0}
    found = (tmp_path / "0").stat()
    assert found.st_size == 8 << 30 and found.st_blocks < 100
