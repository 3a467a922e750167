"""Layer archives, honest and hostile, through ``docker-applylayer``."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import msgspec
import pytest
import zstandard

from reexec.archive.extract import Whiteouts
from reexec.command import command
from reexec.helpers.applylayer import Applied, ApplyLayer
from services.engine.helpers import document
from services.protocol.errors import WharfError
from tests.suites.forked import ForkedHelpers
from tests.suites.trees import digest, directory, entry, hardlink, listing, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")


def apply(tree: Path, archive: bytes, **options: object) -> Applied:
    arguments = ApplyLayer(str(tree), **options)  # type: ignore[arg-type]
    with tempfile.TemporaryFile() as file:
        file.write(archive)
        file.seek(0)
        result = asyncio.run(
            ForkedHelpers().run(document("docker-applylayer", arguments), {"stdin": file.fileno()})
        )
    return msgspec.msgpack.decode(result, type=Applied)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("untouched")
    top = tmp_path / "tree"
    top.mkdir()
    return top


_PRECISE = {"mtime": "1600000000.123456789"}


def test_attributes_survive(tree: Path) -> None:
    applied = apply(
        tree,
        tar(
            directory("d", mode=0o1777, uid=1, gid=2, mtime=1_500_000_000),
            entry(
                "d/f",
                b"hello",
                mode=0o4755,
                uid=1000,
                gid=1001,
                pax_headers={"mtime": "1600000000.123456789"},
            ),
            entry("x", b"c", pax_headers={"SCHILY.xattr.user.mark": "v\udc80"}),
            hardlink("h", "d/f"),
            symlink("abs", "/etc/passwd"),
            entry("fifo", type=tarfile.FIFOTYPE),
            entry("null", type=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
        ),
    )
    found = os.stat(tree / "d")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o1777, 1, 2)
    assert found.st_mtime == 1_500_000_000
    found = os.stat(tree / "d/f")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o4755, 1000, 1001)
    assert found.st_mtime_ns == 1_600_000_000_123_456_789
    assert os.path.samefile(tree / "d/f", tree / "h")
    assert os.getxattr(tree / "x", "user.mark") == b"v\x80"
    assert os.readlink(tree / "abs") == "/etc/passwd"
    assert stat.S_ISFIFO(os.lstat(tree / "fifo").st_mode)
    assert os.lstat(tree / "null").st_rdev == os.makedev(1, 3)
    assert applied.size == 5 + 1 + len("/etc/passwd")


def test_long_names_of_gnu_and_pax(tree: Path) -> None:
    name = "n" * 90 + "/" + "m" * 120
    apply(tree, tar(entry(name, b"1"), format=tarfile.GNU_FORMAT))
    assert (tree / name).read_text() == "1"
    apply(tree, tar(entry("é" * 100, b"2"), format=tarfile.PAX_FORMAT))
    assert (tree / ("é" * 100)).read_text() == "2"


def test_missing_parents_are_made(tree: Path) -> None:
    apply(tree, tar(entry("a/b/c", b"1")))
    assert stat.S_IMODE(os.stat(tree / "a/b").st_mode) == 0o755


def test_a_later_entry_replaces_an_earlier_one(tree: Path) -> None:
    apply(
        tree, tar(directory("x"), entry("x/y", b"1"), entry("x", b"2"), symlink("l", "x"), entry("l", b"3"))
    )
    assert listing(str(tree)) == {f"{tree}/x": "2", f"{tree}/l": "3"}


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "..", "/../outside", "a/../.."])
def test_names_that_leave_the_tree_are_refused(tree: Path, name: str) -> None:
    with pytest.raises(WharfError, match="outside of the tree"):
        apply(tree, tar(entry(name, b"evil")))
    assert (tree.parent / "outside").read_text() == "untouched"


def test_links_end_at_the_root_of_the_tree(tree: Path) -> None:
    """A link to a directory of the host, and a file through it: both stay in the tree."""
    outside = str(tree.parent)
    apply(tree, tar(symlink("up", "../../../../../.."), directory("in"), entry("up/in/f", b"1")))
    assert (tree / "in/f").read_text() == "1"
    apply(tree, tar(symlink("abs", outside), entry("abs/outside", b"evil")))
    assert (tree.parent / "outside").read_text() == "untouched"


@pytest.mark.parametrize("target", ["../outside", "/../outside", "nowhere"])
def test_hard_links_cannot_reach_the_host(tree: Path, target: str) -> None:
    with pytest.raises(WharfError):
        apply(tree, tar(hardlink("l", target), entry("l", b"evil")))
    assert (tree.parent / "outside").read_text() == "untouched"


def test_a_hard_link_to_the_hosts_file_by_its_path(tree: Path) -> None:
    with pytest.raises(WharfError):
        apply(tree, tar(hardlink("l", str(tree.parent / "outside"))))


def test_whiteouts_of_overlay(tree: Path) -> None:
    apply(tree, tar(entry("d/.wh.gone"), directory("o"), entry("o/.wh..wh..opq"), entry("o/new", b"1")))
    gone = os.lstat(tree / "d/gone")
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(tree / "o", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(tree / "o")) == ["new"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh..."])
def test_whiteouts_of_nothing_or_of_the_parent_are_refused(tree: Path, name: str) -> None:
    (tree / "keep").write_text("1")
    with pytest.raises(WharfError, match="is not a whiteout"):
        apply(tree, tar(entry(name)), whiteouts=Whiteouts.REMOVE)
    assert (tree / "keep").exists()


def test_aufs_leftovers_are_ignored(tree: Path) -> None:
    apply(
        tree,
        tar(directory(".wh..wh.plnk"), entry(".wh..wh.plnk/1.2", b"x"), entry(".wh..wh.aufs"), entry("f")),
    )
    assert os.listdir(tree) == ["f"]


_COMPRESSORS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "zstd in two frames": lambda data: (
        zstandard.ZstdCompressor().compress(data[:700]) + zstandard.ZstdCompressor().compress(data[700:])
    ),
    "gzip in two members": lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
}


@pytest.mark.parametrize("kind", _COMPRESSORS)
def test_compressed_layers(tree: Path, kind: str) -> None:
    archive = tar(entry("f", b"data" * 1000))
    stored = _COMPRESSORS[kind](archive)
    applied = apply(tree, stored, diff_id=digest(archive), digest=digest(stored))
    assert applied.diff_id == digest(archive)
    assert (tree / "f").read_bytes() == b"data" * 1000


def test_the_wrong_layer_is_refused(tree: Path) -> None:
    archive = tar(entry("f", b"1"))
    wrong = "sha256:" + "0" * 63 + "1"
    with pytest.raises(WharfError, match=f'^expected "{wrong}", got "{digest(archive)}"$'):
        apply(tree, archive, diff_id=wrong)
    with pytest.raises(WharfError, match="blob digest mismatch"):
        apply(tree, gzip.compress(archive), diff_id=digest(archive), digest=wrong)


def test_bytes_behind_the_end_count(tree: Path) -> None:
    archive = tar(entry("f", b"1")) + b"\0" * 5120 + b"trailer"
    assert apply(tree, archive).diff_id == digest(archive)


_WHOLE = tar(entry("a", os.urandom(3000)), entry("b", b"1" * 3000))


@pytest.mark.parametrize(
    "broken",
    [
        b"this is not a tar archive",
        b"x" * 2048,
        _WHOLE[:700],
        _WHOLE[:4000],
        gzip.compress(_WHOLE)[:-200],
        gzip.compress(_WHOLE)[:200] + b"\xff" * 300,
        lzma.compress(_WHOLE)[:-200],
        bz2.compress(_WHOLE)[:-200],
        zstandard.ZstdCompressor().compress(_WHOLE)[:-200],
        b"\x1f\x8b\x08",
        b"\x28\xb5\x2f\xfd",
    ],
)
def test_broken_archives_are_refused(tree: Path, broken: bytes) -> None:
    with pytest.raises(WharfError, match="(EOF|tar|archive)"):
        apply(tree, broken)


def test_a_broken_header_is_not_the_end(tree: Path) -> None:
    archive = bytearray(_WHOLE)
    second = archive.index(b"b\0\0\0")
    archive[second + 150] ^= 0xFF  # its checksum
    with pytest.raises(WharfError, match="invalid tar header"):
        apply(tree, bytes(archive))


def test_a_header_that_would_fill_the_memory_is_refused(tree: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 2 << 30
    with pytest.raises(WharfError, match="header field too long"):
        apply(tree, info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024)


def test_an_empty_layer(tree: Path) -> None:
    assert apply(tree, tar()).size == 0
    assert apply(tree, b"").diff_id == digest(b"")


def test_sparse_files(tree: Path) -> None:
    """A GNU 1.0 sparse file as GNU tar writes it: a map of the data, then the data."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        body = b"1\n4096\n3\n".ljust(512, b"\0") + b"abc"
        info = tarfile.TarInfo("GNUSparseFile.0/s")
        info.size = len(body)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "s",
            "GNU.sparse.realsize": "8192",
        }
        archive.addfile(info, io.BytesIO(body))
    apply(tree, buffer.getvalue())
    assert (tree / "s").read_bytes() == b"\0" * 4096 + b"abc" + b"\0" * 4093


def test_by_hand(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "l.tar"
    path.write_bytes(tar(entry("f", b"1")))
    arguments = msgspec.json.encode(ApplyLayer(str(tree))).decode()
    with path.open("rb") as file:
        status, errors = command("docker-applylayer", arguments, fds={"stdin": file.fileno()}).run()
    assert status == 0, errors
    assert (tree / "f").read_text() == "1"
