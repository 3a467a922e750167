"""Trees of running containers, which change while they are looked at."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reexec.archive.extract import tree_size
from reexec.archive.pack import Packer
from reexec.helpers import changes

#: Of a directory that is not in the root, against which is compared.
TOP = "/wharfd-test-no-such-directory"


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / TOP[1:]
    made.mkdir()
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize("whole", [False, True])
def test_what_goes_while_it_is_compared_is_not_told(
    top: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    for name in ("kept", "gone", "d/x", "d/y/z", "other/x"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("")
    listed = os.listdir

    def late(path: str) -> list[str]:
        if path.endswith("/other"):
            shutil.rmtree(path)
            Path(path).write_text("a file now")
        names = listed(path)
        if path == f".{TOP}":
            (top / "gone").unlink()
        if path.endswith("/d"):
            shutil.rmtree(path)
        return names

    monkeypatch.setattr(os, "listdir", late)
    found: dict[str, int] = {}
    if whole:
        changes._compare(TOP, found)
    else:
        changes._differences(TOP, found, every=False)
    assert found == {f"{TOP}/{name}": changes.ADDED for name in ("kept", "d", "other")}


def _pack(top: Path) -> dict[str, tarfile.TarInfo]:
    sink = io.BytesIO()
    packer = Packer(sink)
    packer.add(str(top), "t")
    packer.close()
    sink.seek(0)
    with tarfile.open(fileobj=sink) as archive:
        return {member.name: member for member in archive}


_INSTEAD: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "a directory": Path.mkdir,
    "a link": lambda path: path.symlink_to("kept"),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("instead", _INSTEAD)
def test_a_file_that_is_another_thing_when_it_is_opened(
    top: Path, monkeypatch: pytest.MonkeyPatch, instead: str
) -> None:
    (top / "a").write_text("content")
    os.link(top / "a", top / "b")
    (top / "kept").write_text("1")
    opened = os.open

    def late(path: str, flags: int) -> int:
        if path.endswith("/a"):
            os.unlink(path)
            _INSTEAD[instead](Path(path))
        return opened(path, flags)

    monkeypatch.setattr(os, "open", late)
    members = _pack(top)
    assert set(members) == {"t", "t/b", "t/kept"}
    assert members["t/b"].isreg() and members["t/b"].size == len("content"), "no link to what is not there"


def test_a_directory_that_is_a_file_when_it_is_measured(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (top / "d").mkdir()
    scanned = os.scandir

    def late(path: str) -> object:
        if path.endswith("/d"):
            os.rmdir(path)
            Path(path).write_text("x")
        return scanned(path)

    monkeypatch.setattr(os, "scandir", late)
    assert tree_size(str(top)) == 0
