"""Users and groups, as moby/sys/user resolves them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.containerd_shim.runtime import user
from services.protocol.errors import InvalidParameter


@dataclass
class Ref:
    user: str
    additional_groups: list[str] = field(default_factory=list)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
        "joe:x:1000:1001::/home/joe:/bin/sh\nbroken\n123:x:77:78::/n:\n\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nwheel:x:10:root\nextra:x:3000:joe,root\njoe:x:1001:\n")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "uid", "gid", "groups", "home"),
    [
        ("", 0, 0, [0, 10, 3000], "/root"),
        ("root", 0, 0, [0, 10, 3000], "/root"),
        ("joe", 1000, 1001, [1001, 3000], "/home/joe"),
        ("1000", 1000, 1001, [1001, 3000], "/home/joe"),
        ("joe:3000", 1000, 3000, [3000], "/home/joe"),
        ("joe:extra", 1000, 3000, [3000], "/home/joe"),
        ("1000:4242", 1000, 4242, [4242], "/home/joe"),
        ("5000", 5000, 0, [0], "/"),
        (":1001", 0, 1001, [1001], "/root"),
        ("123", 123, 0, [0], "/"),
        ("2147483647", 2147483647, 0, [0], "/"),
    ],
)
def test_resolution(root: int, text: str, uid: int, gid: int, groups: list[int], home: str) -> None:
    assert user.resolve(root, Ref(text)) == user.Identity(uid, gid, groups, home)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        (
            "99999999999999999999",
            "unable to find user 99999999999999999999: no matching entries in passwd file",
        ),
        ("root:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("0:-1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_refusals(root: int, text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        user.resolve(root, Ref(text))
    assert str(caught.value) == message


def test_additional_groups(root: int) -> None:
    assert user.resolve(root, Ref("1000", ["wheel", "2000", "10"])).groups == [1001, 3000, 10, 2000]
    with pytest.raises(InvalidParameter, match="unable to find group nosuch"):
        user.resolve(root, Ref("", ["nosuch"]))


def test_without_files(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert user.resolve(fd, Ref("")) == user.Identity(0, 0, [0], "/")
        assert user.resolve(fd, Ref("7:8")) == user.Identity(7, 8, [8], "/")
        with pytest.raises(InvalidParameter):
            user.resolve(fd, Ref("joe"))
    finally:
        os.close(fd)


def test_files_are_looked_up_inside_the_root(tmp_path: Path) -> None:
    """A link to the host's passwd is a link to nothing."""
    outside = tmp_path / "outside"
    outside.write_text("spy:x:4711:4711::/:\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").symlink_to(outside)
    os.mkfifo(root / "etc/group")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(InvalidParameter, match="unable to find user spy"):
            user.resolve(fd, Ref("spy"))
    finally:
        os.close(fd)
