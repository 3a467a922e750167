"""Lines come and go in a file that a container reads meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.engine.networks import hostsfile

_OLD = "127.0.0.1\tlocalhost\n10.0.0.2\tbox\n10.0.0.3\tbox\n"


def _is_second(line: str) -> bool:
    return line.startswith("10.0.0.2\t")


def test_lines_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(_OLD)
    inode = path.stat().st_ino
    hostsfile.edit(str(path), _is_second, "")
    assert path.read_text() == "127.0.0.1\tlocalhost\n10.0.0.3\tbox\n"
    hostsfile.edit(str(path), _is_second, "10.0.0.4\tbox\n")
    assert path.read_text() == "127.0.0.1\tlocalhost\n10.0.0.3\tbox\n10.0.0.4\tbox\n"
    assert path.stat().st_ino == inode


def test_a_line_without_its_end_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"1.1.1.1\tone \xff")
    hostsfile.edit(str(path), lambda _: False, "10.0.0.4\tbox\n")
    assert path.read_bytes() == b"1.1.1.1\tone \xff\n10.0.0.4\tbox\n"


def test_a_crash_before_the_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of an old line is seen behind the new ones."""
    path = tmp_path / "hosts"
    path.write_text(_OLD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", lambda *_: None)
        hostsfile.edit(str(path), _is_second, "")
    assert path.read_text().rstrip("\n") == "127.0.0.1\tlocalhost\n10.0.0.3\tbox"


def test_a_file_that_is_gone_or_a_link_is_left(tmp_path: Path) -> None:
    hostsfile.edit(str(tmp_path / "hosts"), lambda _: False, "10.0.0.4\tbox\n")
    (tmp_path / "target").write_text("")
    (tmp_path / "hosts").symlink_to(tmp_path / "target")
    hostsfile.edit(str(tmp_path / "hosts"), lambda _: False, "10.0.0.4\tbox\n")
    assert (tmp_path / "target").read_text() == ""


def test_a_file_is_replaced_unless_somebody_has_edited_it(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    known = hostsfile.digest(path.read_bytes())
    hostsfile.replace(str(path), known, "nameserver 127.0.0.11\n")
    assert path.read_text() == "nameserver 127.0.0.11\n"
    hostsfile.replace(str(path), known, "nameserver 192.0.2.9\n")
    assert path.read_text() == "nameserver 127.0.0.11\n"
