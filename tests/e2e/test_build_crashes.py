"""kill -9 of the engine in each phase of a build: nothing is left, and the next build goes on from there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.builds import files, post, said, traces, traces_at_rest, wait_for_traces, workers
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until
from tests.harness.web import Page, Site

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

#: Files, so many that copying them takes some tenths of a second.
MANY = 1200


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def steps(number: str, last: str) -> str:
    """Two steps that are done before the one that is not; *number* tells one test's from another's."""
    return f"FROM busybox\nENV N={number}\nRUN echo first >/first\n{last}\n"


def crash(engine: Engine, context: bytes, busy: Callable[[], bool], *, parameters: str = "") -> bool:
    """Kill the engine as soon as the build is *busy*, and its client with it.

    False if the build has ended before anybody saw that it was.
    """
    command = ["curl", "-sS", "--no-buffer", "-X", "POST", "-T", "-", "--unix-socket", str(engine.socket),
               f"http://docker/v1.41/build?{parameters}"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
        assert client.stdin is not None
        try:
            client.stdin.write(context)
            client.stdin.flush()
            if parameters or context.endswith(bytes(1024)):
                client.stdin.close()
            wait_until(lambda: busy() or client.poll() is not None, "the build is busy", poll=0.005)
            if client.poll() is not None:
                return False
            engine.kill("engine")
        finally:
            client.kill()
    engine.wait_ready()
    return True


def helper(engine: Engine, name: str) -> Callable[[], bool]:
    return lambda: any(name in line for line in workers(engine))


def test_in_run(engine: Engine) -> None:
    context = files(Dockerfile=steps("run", "RUN sleep 60"))
    assert crash(engine, context, lambda: "sleep 60" in engine.docker("ps", "--no-trunc").stdout)
    wait_until(lambda: not engine.docker("ps", "-aq").stdout, "the container is gone")
    once = traces_at_rest(engine)
    again = said(post(engine, files(Dockerfile=steps("run", "RUN sleep 0"))))
    assert again.count("Using cache") == 2 and "Successfully built" in again
    assert once <= traces(engine)


def test_in_a_run_with_mounts(engine: Engine) -> None:
    begin = f"FROM busybox AS other\nRUN echo other >/o\n{steps('mounts', '')}"
    run = (
        "RUN --mount=target=/c,rw --mount=from=other,target=/o,rw "
        "--mount=type=cache,target=/k,sharing=locked touch /c/x /o/x; ls /k; touch /k/x; {}\n"
    )
    assert "Successfully built" in post(engine, files(Dockerfile=begin, file="f"))
    before = traces_at_rest(engine)
    context = files(Dockerfile=begin + run.format("sleep 60"), file="f")
    assert crash(engine, context, lambda: "sleep 60" in engine.docker("ps", "--no-trunc").stdout)
    wait_for_traces(engine, before)
    again = said(post(engine, files(Dockerfile=begin + run.format("sleep 0"), file="f")))
    # The cache of the step that was cut off is there, and free.
    assert "\nx\n" in again and again.count("Using cache") == 3 and "Successfully built" in again


@pytest.mark.parametrize("source", ["context", "stage"])
def test_in_copy(engine: Engine, source: str) -> None:
    assert any(_in_copy(engine, source, f"{source}{number}") for number in range(5))


def _in_copy(engine: Engine, source: str, number: str) -> bool:
    """False if the copy was over before it was seen, or just when it was."""
    names = {f"many__{number}": "x" * 2000 for number in range(MANY)}
    begin = steps(number, "")
    if source == "stage":
        begin = f"FROM busybox AS other\nCOPY many /m\n{begin}COPY --from=other /m /c\n"
    first = said(post(engine, files(Dockerfile=begin.split("COPY --from")[0], **names)))
    assert "Successfully built" in first
    before, images = traces_at_rest(engine), engine.docker("images", "-aq").stdout.split()
    context = files(Dockerfile=begin if source == "stage" else f"{begin}COPY many /c\n", **names)
    stopped: list[int] = []
    try:
        if not crash(engine, context, lambda: _stop_copy(engine, stopped)):
            return False
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    if len(engine.docker("images", "-aq").stdout.split()) > len(images):
        return False
    wait_for_traces(engine, before)
    again = said(post(engine, context))
    assert again.count("Using cache") == (3 if source == "stage" else 2)
    assert "Successfully built" in again
    return True


def _stop_copy(engine: Engine, stopped: list[int]) -> bool:
    """What copies stands still until the next engine has cleared up: then it ends, and leaves nothing."""
    for line in workers(engine):
        if "docker-buildcopy" in line:
            pid = int(line.split()[0])
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
    return bool(stopped)


def test_while_the_context_is_sent(engine: Engine) -> None:
    before = traces_at_rest(engine)
    context = files(Dockerfile=steps("sent", "RUN true"), big=b"x" * 3_000_000)
    cut = context[:2_000_000]
    unpacked = (engine.data_root / "tmp").glob
    assert crash(engine, cut, lambda: any(path.stat().st_size for path in unpacked("build-*/big")))
    wait_for_traces(engine, before)
    assert "Successfully built" in post(engine, context)


def test_in_a_clone(engine: Engine, site: Site) -> None:
    site.pages["/slow.git/info/refs"] = Page(status=404, seconds=60)
    before = traces_at_rest(engine)
    assert crash(engine, b"", helper(engine, "git-remote-http"), parameters=f"remote={site.url}/slow.git")
    wait_for_traces(engine, before)


def test_in_a_download(engine: Engine, site: Site) -> None:
    site.pages["/slow"] = Page(b"x", seconds=60)
    begin = steps("download", "")
    assert "Successfully built" in post(engine, files(Dockerfile=begin))
    before = traces_at_rest(engine)
    context = files(Dockerfile=f"{begin}ADD {site.url}/slow /d\n")
    assert crash(engine, context, helper(engine, "docker-download"))
    wait_for_traces(engine, before)
    site.pages["/slow"] = Page(b"x")
    again = said(post(engine, context))
    assert again.count("Using cache") == 2 and "Successfully built" in again
