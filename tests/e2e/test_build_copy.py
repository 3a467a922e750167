"""COPY and ADD with their options and sources: what gets into the layers, and with which modes and owners."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_build_contexts import commit, git
from tests.harness.builds import Context, files, post, said, wait_nothing_left
from tests.harness.engine import Engine
from tests.harness.web import Page, Site

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

#: Prints every file below a directory: name, mode, owner.
SHOW = "RUN cd {} && find . | sort | xargs stat -c '%n %a %u:%g'\n"


@pytest.fixture
def context(engine: Engine, tmp_path: Path) -> Iterator[Context]:
    """With a tree ``src``; nothing is left after the test."""
    context = Context(engine, tmp_path)
    context.write("src/a/b/f.txt", "f\n")
    context.write("src/a/g.md", "g\n", 0o755)
    context.write("src/n/node_modules/x/y", "y\n")
    context.write("src/n/z.txt", "z\n", 0o600)
    (tmp_path / "src/a/b").chmod(0o751)
    (tmp_path / "src/link").symlink_to("../../../../../../../etc/hostname")
    yield context
    engine.remove_containers()
    wait_nothing_left(engine)


def shown(context: Context, text: str, directory: str = "/t") -> list[str]:
    """What :data:`SHOW` prints of *directory* after the steps of *text*."""
    lines = context.build(text + SHOW.format(directory)).splitlines()
    return [line.removeprefix("./") for line in lines if line.startswith("./")]


@pytest.mark.parametrize(
    ("mode", "top", "directory", "file", "executable"),
    [
        ("640", "640", "640", "640", "640"),
        ("02755", "2755", "2755", "2755", "2755"),
        ("u=rwX,go=rX", "755", "755", "644", "755"),
        ("go-rwx", "700", "700", "600", "700"),
        ("a+w,u-w", "577", "573", "466", "577"),
        ("g=u,o=", "770", "770", "660", "770"),
        ("+s,o+t", "7755", "7751", "7644", "7755"),
    ],
)
def test_chmod(context: Context, mode: str, top: str, directory: str, file: str, executable: str) -> None:
    done = shown(context, f"COPY --chmod={mode} src/a /t/s\n")
    assert done == [
        f"s {top} 0:0",
        f"s/b {directory} 0:0",
        f"s/b/f.txt {file} 0:0",
        f"s/g.md {executable} 0:0",
    ]


def test_chmod_with_chown_and_variables(context: Context) -> None:
    text = "ENV M=1777 O=7:8\nCOPY --chown=$O --chmod=${M} src/a/g.md /t/g\nADD --chmod=600 src/n/z.txt /t/\n"
    assert shown(context, text) == ["g 1777 7:8", "z.txt 600 0:0"]
    for wrong in ("999", "u=q", "78", "rwx", "12345"):
        assert "invalid chmod parameter" in context.build(f"COPY --chmod={wrong} src /t", check=False)


def test_exclude(context: Context) -> None:
    def names(text: str) -> list[str]:
        return [line.split()[0] for line in shown(context, text)]

    assert names("COPY --exclude=*.md --exclude=**/node_modules src/a src/n /t/\n") == [
        "b",
        "b/f.txt",
        "z.txt",
    ]
    kept = names("COPY --exclude=n --exclude=!n/z.txt --exclude=**/f.* src /t\n")
    assert kept == ["a", "a/b", "a/g.md", "link", "n", "n/z.txt"]
    assert names("COPY --exclude=g.* src/a/* /t/\n") == ["f.txt"]
    assert names("COPY src/n/z.txt /t/\nCOPY --exclude=*.txt src/n/z.txt /t/other\n") == ["z.txt"]


def test_excluded_files_do_not_matter_to_the_cache(context: Context) -> None:
    text = "COPY --exclude=**/*.txt src /t\n"
    context.build(text)
    context.write("src/a/b/f.txt", "other\n")
    assert "Using cache" in context.build(text)
    context.write("src/a/g.md", "other\n", 0o755)
    assert "Using cache" not in context.build(text)


def test_parents(context: Context) -> None:
    text = "COPY --parents src/a/b/f.txt src/./n/z.txt src/./a/**/f.* /t/\nCOPY --parents src/./n /t/u\n"
    assert shown(context, text) == [
        "a 755 0:0", "a/b 751 0:0", "a/b/f.txt 644 0:0", "n 755 0:0", "n/z.txt 600 0:0",
        "src 755 0:0", "src/a 755 0:0", "src/a/b 751 0:0", "src/a/b/f.txt 644 0:0",
        "u 755 0:0", "u/n 755 0:0", "u/n/node_modules 755 0:0", "u/n/node_modules/x 755 0:0",
        "u/n/node_modules/x/y 644 0:0", "u/n/z.txt 600 0:0",
    ]  # fmt: skip
    assert "forbidden path" in context.build("COPY --parents ../x /t/", check=False)
    owned = shown(context, "COPY --parents --chown=3:4 --exclude=a/b src/./a /t/\n")
    assert owned == ["a 755 3:4", "a/g.md 755 3:4"]


def test_options_with_a_stage(context: Context) -> None:
    text = (
        "RUN mkdir -p /s/d && echo f >/s/d/f && echo g >/s/g && ln -s /s /l && chmod 711 /s/d\n"
        "FROM busybox\nCOPY --from=0 --chmod=700 --exclude=g /l /t/\n"
        "COPY --from=0 --parents --chown=1:2 /s/d/f /s/./g /t/p/\n"
        "COPY --from=0 <<EOF /s/d/f /t/q/\nEOF\n"
    )
    assert shown(context, text) == [
        "d 700 0:0", "d/f 700 0:0", "p 755 1:2", "p/g 644 1:2", "p/s 755 1:2", "p/s/d 711 1:2",
        "p/s/d/f 644 1:2", "q 755 0:0", "q/EOF 644 0:0", "q/f 644 0:0",
    ]  # fmt: skip


def test_links_of_the_context_lead_nowhere(context: Context) -> None:
    (context.directory / "out").symlink_to("/etc")
    (context.directory / "in").symlink_to("src/a")
    for step in (
        "--parents out/hostname",
        "--parents out/./hostname",
        "--exclude=x out/hostname",
        "out/host*",
    ):
        done = context.build(f"COPY {step} /t/\n", check=False)
        assert "not found in build context" in done or "no source files were specified" in done, step
    assert [line.split()[0] for line in shown(context, "COPY --parents in/b/f.txt /t/\n")] == [
        "in", "in/b", "in/b/f.txt",
    ]  # fmt: skip


def test_link(context: Context) -> None:
    text = (
        "RUN mkdir -p /real/dir && ln -s /real /t && ln -s /etc/passwd /real/dir/file\n"
        "COPY --link src/a/g.md /t/g\nCOPY --link src/a /real/dir/\nCOPY --link src/n/z.txt /real/dir/file\n"
    )
    assert shown(context, text) == ["g 755 0:0"]
    done = context.build(text + "RUN ls -1 /real /real/dir; cat /real/dir/file; cat /etc/passwd | head -1\n")
    assert "\n/real:\ndir\n\n/real/dir:\nb\nfile\ng.md\nz\nroot:" in done


def test_unpack(context: Context) -> None:
    with tarfile.open(context.directory / "a.tgz", "w:gz") as tar:
        tar.add(context.directory / "src/a/g.md", "in/g.md")
    text = (
        "ADD --unpack=false a.tgz /t/\nADD --unpack=true a.tgz /t/u/\nADD --unpack a.tgz src/n/z.txt /t/v/\n"
    )
    names = [line.split()[0] for line in shown(context, text)]
    assert names == ["a.tgz", "u", "u/in", "u/in/g.md", "v", "v/in", "v/in/g.md", "v/z.txt"]


def test_heredocs(context: Context) -> None:
    text = (
        "ENV WHO=you\n"
        'COPY --chown=5:6 <<ONE <<"TWO" <<-THREE /t/\n'
        'hello $WHO ${WHO:+x} "q" \\$WHO\nONE\n'
        "hello $WHO \\n\nTWO\n"
        "\ttabbed ${WHO}\n\tTHREE\n"
        "ADD --chmod=0755 <<EOF /t/run\n#!/bin/sh\necho ran by $WHO\nEOF\n"
        "RUN cat /t/ONE /t/TWO /t/THREE; /t/run\n"
    )
    done = context.build(text + SHOW.format("/t"))
    assert '\nhello you x "q" $WHO\nhello $WHO \\n\ntabbed you\nran by you\n' in done
    for line in ("./ONE 644 5:6", "./TWO 644 5:6", "./THREE 644 5:6", "./run 755 0:0"):
        assert f"\n{line}\n" in done
    assert context.build(text).count("Using cache") == 4
    assert context.build(text.replace("hello", "bye")).count("Using cache") == 1
    refused = context.build("COPY src <<EOF\nEOF\n", check=False)
    assert "line 2: COPY cannot accept a heredoc as a destination" in refused
    assert "unterminated heredoc" in context.build("COPY <<EOF /t\n", check=False)


def test_triggers_with_heredocs(engine: Engine, context: Context) -> None:
    context.build("ONBUILD COPY <<A <<B /d/\na $HOME\nA\nb\nB\nONBUILD ADD <<C /c\nc\nC\n", "-t", "trigger")
    done = engine.docker("build", "-", stdin="FROM trigger\nRUN cat /d/A /d/B /c\n")
    assert "\na \nb\nc\n" in done.stdout


def test_triggers_may_want_the_same_file(engine: Engine, context: Context) -> None:
    context.build("ONBUILD COPY src/n/z.txt /a\nONBUILD COPY src/n/z.txt /b\n", "-t", "twice")
    context.write("again", "FROM twice\nRUN cat /a /b\n")
    done = engine.docker("build", "-f", str(context.directory / "again"), str(context.directory))
    assert "\nz\nz\n" in done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("repositories"))
    yield site
    site.close()


def test_downloads(context: Context, site: Site) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(context.directory / "src/a/g.md", "in/g.md")
    site.pages["/a.tar"] = Page(data.getvalue())
    url = f"{site.url}/a.tar"
    digests = {name: hashlib.new(name, data.getvalue()).hexdigest() for name in ("sha256", "sha512")}
    text = "".join(f"ADD --checksum={name}:{digest} {url} /t/{name}\n" for name, digest in digests.items())
    text += f"ADD --unpack=true {url} /t/u/\nADD --chmod=444 --chown=1:2 {url} /t/\n"
    assert shown(context, text) == [
        "a.tar 444 1:2", "sha256 600 0:0", "sha512 600 0:0", "u 755 0:0", "u/in 755 0:0", "u/in/g.md 755 0:0"
    ]  # fmt: skip
    wrong = context.build(f"ADD --checksum=sha256:{'0' * 64} {url} /t/", check=False)
    assert f"digest mismatch sha256:{digests['sha256']}: sha256:{'0' * 64}" in wrong
    for checksum, sources, message in (
        ("sha256:12", url, "invalid checksum digest length"),
        ("md5:12", url, "unsupported digest algorithm"),
        ("12", url, "invalid checksum digest format"),
        (f"sha256:{'0' * 64}", f"{url} src", "checksum can't be specified for multiple sources"),
        (f"sha256:{'0' * 64}", "src", "checksum can't be specified for non-HTTP(S) sources"),
    ):
        assert message in context.build(f"ADD --checksum={checksum} {sources} /t/", check=False)


def test_git(context: Context, site: Site) -> None:
    repository = site.repositories / "added.git"
    repository.mkdir()
    git(repository, "init", "-q")
    first = commit(repository, "first", README_md="r", sub__file="s")
    git(repository, "checkout", "-qb", "other")
    commit(repository, "other", only="o")
    git(repository, "checkout", "-q", "master")
    url = f"{site.url}/git/added.git"
    text = f"ADD --checksum={first} {url} /t\nADD {url}#other:sub /t/s/\nADD --chown=1:2 {url}#other /t/o\n"
    assert shown(context, text) == [
        "README_md 644 0:0", "o 755 1:2", "o/README_md 644 1:2", "o/only 644 1:2", "o/sub 755 1:2",
        "o/sub/file 644 1:2", "s 755 0:0", "s/file 644 0:0", "sub 755 0:0", "sub/file 644 0:0",
    ]  # fmt: skip
    kept = f"ADD --keep-git-dir=true {url} /t\nRUN ls -A /t\n"
    assert "\n.git\n" in context.build(kept)
    assert context.build(kept).count("Using cache") == 2
    second = commit(repository, "second", README_md="changed")
    assert "Using cache" not in context.build(kept)
    wrong = context.build(f"ADD --checksum={'0' * 40} {url} /t", check=False)
    assert f"expected checksum to match {'0' * 40}, got {second}" in wrong


def test_files_of_a_stage_keep_their_owners(engine: Engine) -> None:
    """As in dockerd: those that are copied, not the directory that they are copied into."""
    made = "mkdir /d && echo x >/d/f && chown 5:6 /d/f && chmod 4711 /d/f && chown 7:8 /d"
    looked = "stat -c '%n %a %u:%g' /one /e /e/f /own"
    dockerfile = (
        f"FROM busybox AS a\nRUN {made}\nFROM busybox\nCOPY --from=a /d/f /one\nCOPY --from=a /d /e\n"
        f"COPY --from=a --chown=1:2 /d/f /own\nRUN {looked}\n"
    )
    answer = said(post(engine, files(Dockerfile=dockerfile)))
    assert "/one 4711 5:6\n/e 755 0:0\n/e/f 4711 5:6\n/own 4711 1:2\n" in answer
    wrong = post(engine, files(Dockerfile="FROM busybox\nCOPY --from=7 /a /b\n"))
    assert "invalid from flag value 7: index out of bounds" in wrong


def test_what_a_health_check_takes_the_place_of_is_told(engine: Engine) -> None:
    checks = "HEALTHCHECK CMD one two\nHEALTHCHECK NONE\nHEALTHCHECK CMD three\n"
    answer = said(post(engine, files(Dockerfile=f"FROM busybox\n{checks}")))
    assert answer.count("Note: overriding") == 1
    assert "\nNote: overriding previous HEALTHCHECK: [CMD-SHELL one two]\n ---> Running in" in answer
