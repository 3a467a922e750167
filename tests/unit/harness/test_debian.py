"""Pools of packages: several are made at the same time."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.harness import debian


def test_pools_share_no_file_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []
    monkeypatch.setattr(debian, "sources", lambda: (debian.Source("http://mirror.test", "stable"),))
    monkeypatch.setattr(debian, "_apt", lambda *command: asked.append(set(command)))
    with tarfile.open(tmp_path / "base.tar", "w") as archive:
        member = tarfile.TarInfo("./var/lib/dpkg/status")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"none"))
    for name in ("one", "two"):
        assert not list(debian.pool(tmp_path, name, "package").iterdir())
    assert not [word for word in asked[0] & asked[1] if str(tmp_path) in word]
    assert (tmp_path / "one.status").read_bytes() == b"none"
    assert (tmp_path / "one.list").read_text() == "deb [trusted=yes] http://mirror.test stable main\n"
