"""Contexts without a daemon: which URLs are repositories, their parts, and ``.dockerignore``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reexec.archive.rootfs import RootSpec
from reexec.call import Call
from reexec.helpers import git as helper
from reexec.helpers import remove as removing
from reexec.helpers.buildfind import Found
from reexec.helpers.remove import remove
from services.engine.builder import context, git
from services.engine.builder.copying import checksum
from services.engine.builder.copysources import Located
from services.engine.builder.ignore import Ignore, leave_out
from services.engine.builder.scoped import resolve
from services.protocol.errors import InvalidParameter, SystemError_
from tests.harness.deep import nest


@pytest.mark.parametrize(
    ("url", "repository"),
    [
        ("git://host/x", True),
        ("git@host:x", True),
        ("ssh://host/x", True),
        ("github.com/a/b", True),
        ("https://host/x.git", True),
        ("http://host/x.git#branch:dir", True),
        ("https://host/x.git/file", False),
        ("https://host/x.tar", False),
        ("https://host/x.git#", False),
        ("file:///x.git", False),
        ("x.git", False),
    ],
)
def test_which_urls_are_repositories(url: str, repository: bool) -> None:
    assert git.is_git(url) == repository


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("git://h/x", git.Remote("git://h/x", "master", "")),
        ("github.com/a/b#v1", git.Remote("https://github.com/a/b", "v1", "")),
        ("git@h:a/b.git#:dir", git.Remote("git@h:a/b.git", "master", "dir")),
        ("https://h/x.git#pull/42/head:a/b", git.Remote("https://h/x.git", "pull/42/head", "a/b")),
        ("https://h/x.git#a%20b:c", git.Remote("https://h/x.git", "a b", "c")),
        ("https://u:p@h/x.git", git.Remote("https://u:p@h/x.git", "master", "", "u:p")),
    ],
)
def test_parts_of_a_url(url: str, remote: git.Remote) -> None:
    assert git.parse(url) == remote


@pytest.mark.parametrize(
    "url", ["git://h/x#-x", "https://h/x.git#--upload-pack=touch", "git@h:x\n#y", "git://h/ x"]
)
def test_refused_urls(url: str) -> None:
    with pytest.raises(InvalidParameter):
        git.parse(url)


def test_default_reference_is_the_callers() -> None:
    assert git.parse("git://h/x#:d", "HEAD").ref == "HEAD"


def test_without_git_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemError_, match='the package "git" is needed'):
        helper.main(Call(["docker-git", '{"url": "git://h/x", "ref": "master", "directory": "/nowhere"}']))


def test_links_end_at_the_top(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, target in (("up", "../../../a"), ("absolute", "/a"), ("chain", "up"), ("loop", "loop")):
        os.symlink(target, tmp_path / name)
    for name in ("up", "absolute", "chain", "a/../../../a", "./a"):
        assert resolve(tmp_path, name) == f"{tmp_path}/a"
    with pytest.raises(InvalidParameter, match="too many links"):
        resolve(tmp_path, "loop")


@pytest.mark.parametrize(
    ("text", "excluded", "kept"),
    [
        ("*.md\n!README.md\n", ["x.md"], ["README.md", "a/x.md"]),
        ("!README.md\n*.md\n", ["README.md"], []),
        ("**/*.log\n", ["x.log", "a/b/x.log"], ["x.logs"]),
        ("a\n!a/b\n", ["a/c", "a/c/b"], ["a/b", "a/b/c"]),
        ("# comment\n\n  /d/ \n", ["d", "d/x"], ["# comment", "c/d"]),
        ("\ufeffx\n", ["x"], ["y"]),
        ("a/**/z\n", ["a/z", "a/b/c/z"], ["b/z"]),
        ("**\n!**/keep\n", ["x", "a/x"], ["keep", "a/keep"]),
        ("a?c\n[xy]\n", ["abc", "x"], ["a/c", "z"]),
    ],
)
def test_ignore(text: str, excluded: list[str], kept: list[str]) -> None:
    ignore = Ignore(text)
    assert [path for path in excluded if not ignore.excludes(path)] == []
    assert [path for path in kept if ignore.excludes(path)] == []


@pytest.mark.parametrize(
    ("text", "message"), [("[\n", "syntax error in pattern"), ("x\n!\n", "illegal exclusion pattern")]
)
def test_ignore_with_a_broken_pattern(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        Ignore(text)


def test_what_is_left_out_of_a_directory(tmp_path: Path) -> None:
    context, outside = tmp_path / "context", tmp_path / "outside"
    for name in ("context/a/b", "context/c/d", "context/empty", "outside"):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "context/a/b/kept",
        "context/a/gone",
        "context/c/d/gone",
        "outside/kept",
        "context/Dockerfile",
    ):
        (tmp_path / name).touch()
    (context / "c/link").symlink_to(outside)
    leave_out(context, Ignore("a\nc\nDockerfile\n!a/b\n"), {"Dockerfile"})
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == [
        "context", "context/Dockerfile", "context/a", "context/a/b", "context/a/b/kept", "context/empty",
        "outside", "outside/kept",
    ]  # fmt: skip


@pytest.mark.parametrize("depth", [50, 1500])
def test_a_deep_tree_can_be_deleted(tmp_path: Path, depth: int) -> None:
    top = tmp_path / "top"
    top.mkdir()
    nest(top, depth)
    remove(str(top))
    assert not top.exists()


def test_what_cannot_be_deleted_does_not_keep_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / name for name in ("first", "bad", "last")]
    for path in paths:
        path.mkdir()

    def fail(path: str) -> None:
        if path.endswith("bad"):
            raise SystemError_(f"cannot remove {path}")
        remove(path)

    monkeypatch.setattr(removing, "remove", fail)
    with pytest.raises(SystemError_, match="bad"):
        removing.main(Call(["docker-remove", *map(str, paths)]))
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


@pytest.mark.parametrize("name", ["../file", "x/../../file", "/../file"])
def test_a_dockerfile_outside_the_context_is_refused(tmp_path: Path, name: str) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for directory in (tmp_path, top):
        (directory / "file").write_text("FROM scratch\n")
    with pytest.raises(SystemError_, match=f"^forbidden path outside the build context: {name} \\(\\)$"):
        context.read_dockerfile(top, name)


def test_a_broken_ignore_file_of_a_context_that_is_sent_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / ".dockerignore").write_text("Dockerfile\n[\n")
    assert context.read_dockerfile(tmp_path, "Dockerfile") == "FROM scratch\n"
    assert (tmp_path / "Dockerfile").exists()


@pytest.mark.parametrize("name", ["link/file", "{outside}/file", "./x/../link/file"])
def test_an_ignored_dockerfile_is_deleted_inside_the_context(tmp_path: Path, name: str) -> None:
    outside, top = tmp_path / "outside", tmp_path / "top"
    for directory in (outside, Path(f"{top}{outside}")):
        directory.mkdir(parents=True)
        (directory / "file").write_text("FROM scratch\n")
    (top / "link").symlink_to(outside)
    (top / ".dockerignore").write_text("**\n")
    assert context.read_dockerfile(top, name.format(outside=outside)) == "FROM scratch\n"
    assert (outside / "file").exists()
    assert not Path(f"{top}{outside}/file").exists()
    assert not (top / ".dockerignore").exists()


def test_sources_as_the_history_has_them() -> None:
    root = RootSpec(directory="/")
    file, directory = (Found(path="/x", name="x", kind=kind, checksum="1") for kind in ("file", "dir"))
    assert checksum([Located(root, file)]) == "file:1"
    assert checksum([Located(root, directory)]) == "dir:1"
    assert checksum([Located(root, file, downloaded=True)]) == "1"
    assert checksum([Located(root, file), Located(root, directory)]).startswith("multi:")
