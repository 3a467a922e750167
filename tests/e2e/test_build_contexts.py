"""Contexts of ``docker build``: repositories, URLs, compressed, broken, hostile."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import os
import socket
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from tests.harness.builds import archive, files, member, post, said, traces_at_rest, wait_for_traces, workers
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until
from tests.harness.web import Page, Site

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

LIST = "FROM busybox\nCOPY . /c\nRUN cd /c && find . -type f -not -path '*/.git/*' | sort\n"


def git(directory: Path, *arguments: str) -> str:
    settings = {
        "user.name": "t", "user.email": "t@localhost", "init.defaultBranch": "master",
        "protocol.file.allow": "always", "commit.gpgsign": "false",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    environment = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null"}
    done = subprocess.run(
        ["git", *words, *arguments], cwd=directory, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(directory: Path, message: str, **contents: str) -> str:
    for name, text in contents.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", message)
    return git(directory, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("repositories"))
    yield site
    site.close()


@pytest.fixture(scope="module")
def commits(site: Site) -> dict[str, str]:
    """``project.git``: master, branch ``other``, tag ``v1``, a submodule and links; ids by name."""
    project, module = site.repositories / "project.git", site.repositories / "module.git"
    for directory in (project, module):
        directory.mkdir()
        git(directory, "init", "-q")
    commit(module, "module", inside="m")
    names = {"first": commit(project, "first", Dockerfile=LIST, sub__Dockerfile=LIST, sub__file="f")}
    git(project, "tag", "-a", "v1", "-m", "v1")
    git(project, "checkout", "-qb", "other")
    names["other"] = commit(project, "other", only_other="o")
    git(project, "checkout", "-q", "master")
    (project / "link").symlink_to("/sub")
    (project / "host").symlink_to("../../../../../etc")
    git(project, "submodule", "add", f"{site.url}/git/module.git", "module")
    names["master"] = commit(project, "master")
    git(project, "update-server-info")
    return names


@pytest.mark.parametrize(
    ("fragment", "listed"),
    [
        ("", "./.gitmodules ./Dockerfile ./module/.git ./module/inside ./sub/Dockerfile ./sub/file"),
        ("#other", "./Dockerfile ./only_other ./sub/Dockerfile ./sub/file"),
        ("#v1", "./Dockerfile ./sub/Dockerfile ./sub/file"),
        ("#refs/tags/v1:sub", "./Dockerfile ./file"),
        ("#:link", "./Dockerfile ./file"),
        ("#{other}", "./Dockerfile ./only_other ./sub/Dockerfile ./sub/file"),
    ],
)
def test_git_repository(
    engine: Engine, site: Site, commits: dict[str, str], fragment: str, listed: str
) -> None:
    url = f"{site.url}/git/project.git{fragment.format(**commits)}"
    answer = said(post(engine, remote=url, nocache="1"))
    assert listed.replace(" ", "\n") in answer and "Successfully built" in answer


@pytest.mark.usefixtures("commits")
def test_git_repository_of_a_server_without_git(engine: Engine, site: Site) -> None:
    """All commits are fetched, for such a server cannot make a pack."""
    assert "Successfully built" in post(engine, remote=f"{site.url}/files/project.git/.git#other")


@pytest.mark.usefixtures("commits")
def test_git_repository_of_a_git_daemon_through_docker_py(engine: Engine, site: Site) -> None:
    """The docker command clones by itself; docker-py leaves it to the daemon."""
    command = [
        f"{git(site.repositories, '--exec-path')}/git-daemon", "--inetd", "--export-all",
        f"--base-path={site.repositories}",
    ]  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:

        def serve() -> None:
            with contextlib.suppress(OSError):  # it is shut down
                while True:
                    client, _ = server.accept()
                    with client:
                        subprocess.run(
                            command, stdin=client, stdout=client, stderr=subprocess.DEVNULL, env=_TRUSTING
                        )

        threads.submit(serve)
        try:
            url = f"git://127.0.0.1:{server.getsockname()[1]}/project.git#v1:sub"
            _, lines = engine.client.images.build(path=url, rm=True, nocache=True)
        finally:
            server.shutdown(socket.SHUT_RDWR)
        assert any("./file" in str(line) for line in lines)


#: Its user is another than the repositories' in some installations.
_TRUSTING = os.environ | {
    "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"
}  # fmt: skip


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{git}/project.git#--upload-pack=x", "invalid refspec: --upload-pack=x"),
        ("{git}/project.git#nosuch", "couldn't find remote ref nosuch"),
        ("{git}/nosuch.git", "error fetching: "),
        ("{git}/project.git#:nosuch", "no such directory: nosuch"),
        ("{git}/project.git#:Dockerfile", "not a directory: Dockerfile"),
        ("{git}/project.git#:../..", "not within git root"),
        ("{git}/project.git#:host", "no such directory: host"),
        ("file://{path}/project.git", "could not be recognized as URL"),
        ("ext::sh -c true", "could not be recognized as URL"),
        ("http://user:secret@127.0.0.1:1/x.git", "xxxxx"),
        ("{url}/redirect-to-file/x.git", "error fetching: "),
    ],
)
@pytest.mark.usefixtures("commits")
def test_git_url_is_refused(engine: Engine, site: Site, url: str, message: str) -> None:
    before = traces_at_rest(engine)
    site.pages["/redirect-to-file/x.git/info/refs"] = Page(status=302, location="file:///etc/passwd")
    url = url.format(git=f"{site.url}/git", url=site.url, path=site.repositories)
    answer = post(engine, remote=url)
    assert "secret" not in answer
    assert message in answer or message == "xxxxx"
    wait_for_traces(engine, before)


@pytest.mark.parametrize(
    "url", ["file://{path}/module.git", "ext::touch {path}/executed", "{path}/module.git"]
)
@pytest.mark.usefixtures("commits")
def test_submodules_use_no_transport_of_the_host(engine: Engine, site: Site, url: str) -> None:
    directory = site.repositories / "hostile.git"
    if not directory.exists():
        directory.mkdir()
        git(directory, "init", "-q")
        git(directory, "submodule", "add", f"{site.url}/git/module.git", "module")
    git(directory, "config", "-f", ".gitmodules", "submodule.module.url", url.format(path=site.repositories))
    commit(directory, url, Dockerfile=LIST)
    before = traces_at_rest(engine)
    assert "error initializing submodules" in post(engine, remote=f"{site.url}/git/hostile.git")
    wait_for_traces(engine, before)
    assert not (site.repositories / "executed").exists()


def test_client_that_leaves_ends_git(engine: Engine, site: Site) -> None:
    site.pages["/slow.git/info/refs"] = Page(status=404, seconds=300)
    before = traces_at_rest(engine)
    url = f"http://docker/v1.41/build?remote={site.url}/slow.git"
    command = ["curl", "-sS", "-X", "POST", "--unix-socket", str(engine.socket), url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        wait_until(lambda: any("git-remote-http" in line for line in workers(engine)), "git has begun")
        client.kill()
    wait_for_traces(engine, before)


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
CONTEXT = files(
    Dockerfile=LIST, _dot_dockerignore="*.log\n!keep.log\n", a__b="b", x_dot_log="x", keep_dot_log="k"
)
KEPT = "./.dockerignore ./Dockerfile ./a/b ./keep.log".replace(" ", "\n")


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_context(engine: Engine, site: Site, name: str) -> None:
    data = COMPRESSED[name](CONTEXT)
    assert "./x.log" in said(
        post(engine, data, nocache="1")
    )  # leaving out what is ignored is the client's work
    site.pages[f"/{name}"] = Page(data, "application/octet-stream")
    answer = said(post(engine, remote=f"{site.url}/{name}", nocache="1"))
    assert KEPT in answer and "x.log" not in answer


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_context_that_is_cut_or_broken(engine: Engine, name: str) -> None:
    data = COMPRESSED[name](files(Dockerfile="FROM busybox\n", noise=os.urandom(50_000)))
    before = traces_at_rest(engine)
    assert "message" in post(engine, data[: len(data) // 2])
    assert "message" in post(engine, data[:1000] + bytes(100) + data[1100:])
    wait_for_traces(engine, before)


PLAIN = b"FROM busybox\nRUN echo plain\n"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (Page(PLAIN), "plain"),
        (Page(PLAIN, "text/plain; charset=utf-8"), "plain"),
        (Page(PLAIN, "application/octet-stream"), "plain"),
        (Page(CONTEXT, "application/x-tar"), KEPT),
        (Page(CONTEXT), KEPT),
        (Page(status=302, location="/other"), "plain"),
        (Page(PLAIN, "text/html"), 'unsupported Content-Type \\"text/html\\"'),
        (Page(), "empty response"),
        (Page(b"gone", status=410), "failed to GET {url}/page with status 410 Gone: gone"),
        (Page(b"no", status=403), "failed to GET {url}/page with status 403 Forbidden: no"),
        (Page(status=302, location="file:///etc/passwd"), "'file:///etc/passwd' is not allowed"),
        (Page(status=302, location="ftp://127.0.0.1/x"), 'unsupported protocol scheme \\"ftp\\"'),
        (Page(status=302, location="/page"), "stopped after 10 redirects"),
        (Page(PLAIN, "text/plain", declared=1000), "unexpected EOF"),
        (Page(b"\0\1\2" * 300, "application/octet-stream"), "invalid tar header"),
        (Page(CONTEXT[:1540], "application/x-tar"), "unexpected EOF"),
    ],
)
def test_url(engine: Engine, site: Site, page: Page, expected: str) -> None:
    site.pages |= {"/page": page, "/other": Page(PLAIN)}
    before = traces_at_rest(engine)
    answer = post(engine, remote=f"{site.url}/page", nocache="1", dockerfile="Dockerfile")
    if "Successfully built" in answer:
        assert expected in said(answer)
    else:
        assert expected.format(url=site.url) in answer
        wait_for_traces(engine, before)


def test_url_of_a_dockerfile_in_an_archive(engine: Engine, site: Site) -> None:
    site.pages["/c.tar"] = Page(files(Dockerfile="FROM nosuch", deep__Other=PLAIN), "application/x-tar")
    assert "plain" in said(post(engine, remote=f"{site.url}/c.tar", dockerfile="deep/Other", nocache="1"))
    site.pages["/Other"] = Page(PLAIN)
    assert "plain" in said(post(engine, remote=f"{site.url}/Other", dockerfile="deep/Other", nocache="1"))


def test_url_of_a_dockerfile_alone_is_no_context(engine: Engine, site: Site) -> None:
    site.pages["/Plain"] = Page(b"FROM busybox\nCOPY . /c\n")
    assert "COPY failed: missing build context" in post(engine, remote=f"{site.url}/Plain")
    site.pages["/Broken"] = Page(b"FROM busybox\nENV x\n")
    answer = json.loads(post(engine, remote=f"{site.url}/Broken"))
    assert answer == {"message": "ENV must have two arguments"}


def test_url_with_an_account(engine: Engine, site: Site) -> None:
    """Another host is not told of it, and no message."""
    site.pages |= {
        "/private": Page(PLAIN, account="me:secret"),
        "/away": Page(status=302, location="/private"),
    }
    mine = site.url.replace("//", "//me:secret@")
    for path in ("private", "away"):
        assert "plain" in said(post(engine, remote=f"{mine}/{path}", nocache="1"))
    other = site.url.replace("127.0.0.1", "localhost")
    site.pages["/away"] = Page(status=302, location=f"{other}/private")
    assert "with status 401" in post(engine, remote=f"{site.url}/private")
    answer = post(engine, remote=f"{mine}/away")
    assert "with status 401" in answer and "secret" not in answer


def test_url_of_an_archive_whose_ignore_file_has_its_dockerfile(engine: Engine, site: Site) -> None:
    dockerfile = "FROM busybox\nCOPY . /c\nRUN echo have $(ls -A /c)\n"
    context = files(Own=dockerfile, _dot_dockerignore="*\n!kept\n", kept="")
    site.pages["/c.tar"] = Page(context, "application/x-tar")
    assert "have kept\n" in said(post(engine, remote=f"{site.url}/c.tar", dockerfile="Own", nocache="1"))


def test_url_of_nobody(engine: Engine) -> None:
    assert "connection refused" in post(engine, remote="http://127.0.0.1:1/x.tar")
    assert "could not be recognized as URL" in post(engine, remote="/etc/passwd")


GOOD = (member("Dockerfile"), b"FROM busybox\nCOPY . /c\n")


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (archive(GOOD, (member("null", tarfile.BLKTYPE), b"")), "is a device"),
        (archive(GOOD, (member("x/../../escape"), b"x")), "is outside of the tree"),
        (archive(GOOD, (member("x", tarfile.LNKTYPE, "../../etc/passwd"), b"")), "is outside of the tree"),
        (archive(GOOD, (member("x", tarfile.LNKTYPE, "/etc/passwd"), b"")), "which it does not have"),
        (archive((member("Dockerfile", tarfile.LNKTYPE, "/etc/hostname"), b"")), "which it does not have"),
        (archive((member("Dockerfile", tarfile.DIRTYPE), b"")), "Cannot locate specified Dockerfile"),
        (archive((member("Dockerfile", tarfile.CHRTYPE), b"")), "is a device"),
        (archive(GOOD, (member("f"), b"x" * 100))[:1200], "unexpected EOF"),
        (archive(GOOD, (member("y", b"Z"), b"")), "Z"),
    ],
    ids=["block", "dotdot", "hard", "hard-absolute", "dockerfile-hard", "directory",
         "dockerfile-device", "header-cut", "unknown-type"],
)  # fmt: skip
def test_hostile_archive_leaves_nothing(engine: Engine, context: bytes, message: str) -> None:
    before = traces_at_rest(engine)
    answer = post(engine, context)
    assert message in answer and "Successfully built" not in answer
    wait_for_traces(engine, before)


def test_links_in_an_archive_lead_nowhere_on_the_host(engine: Engine, tmp_path: Path) -> None:
    link, dotdots = (
        member("d", tarfile.SYMTYPE, str(tmp_path)),
        member("e", tarfile.SYMTYPE, "../" * 20 + "tmp"),
    )
    context = archive(
        GOOD, (link, b""), (member("d/f"), b"x"), (dotdots, b""), (member("e/wh-escaped"), b"x")
    )
    assert "Successfully built" in post(engine, context)
    assert not list(tmp_path.iterdir()) and not Path("/tmp/wh-escaped").exists()


def test_deep_tree(engine: Engine) -> None:
    """Deeper than calls may be nested by default; its image can be removed, and leaves nothing."""
    before = traces_at_rest(engine)
    directories = [member("/".join("d" * depth), tarfile.DIRTYPE) for depth in range(1, 1100)]
    for directory in directories:
        directory.mode = 0o755
    context = archive(GOOD, *((directory, b"") for directory in directories))
    assert "Successfully built" in post(engine, context, t="deep")
    engine.docker("rmi", "deep")
    wait_for_traces(engine, before)
    assert "unknown instruction" in post(
        engine, archive((member("Dockerfile"), b"FROM busybox\nX"), (directories[-1], b""))
    )
    wait_for_traces(engine, before)
