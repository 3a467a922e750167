"""``docker build``: what the transcripts cannot show: crashes, clients that leave, hostile contexts."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.builds import (
    archive,
    begin,
    member,
    post,
    signals,
    traces_at_rest,
    wait_for_traces,
    wait_nothing_left,
)
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

SLOW = "FROM busybox\nRUN echo first >/first\nRUN sleep 60\n"


def build(engine: Engine, dockerfile: str, *flags: str, check: bool = True) -> Any:
    return engine.docker("build", *flags, "-", stdin=dockerfile, check=check)


def begin_slow(engine: Engine) -> subprocess.Popen[bytes]:
    process = begin(engine, SLOW)
    wait_until(lambda: "sleep" in engine.docker("ps").stdout, "the second step runs")
    return process


def test_client_that_leaves_ends_the_build(engine: Engine) -> None:
    process = begin_slow(engine)
    since = time.time()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_nothing_left(engine)
    assert signals(engine, since) == ["9"]  # a stop would ask it first, and give it ten seconds


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.2, 0.35, 0.5])
def test_client_may_leave_at_any_time(engine: Engine, delay: float) -> None:
    dockerfile = "FROM busybox\n" + f"WORKDIR /w{delay}\nRUN true\nCOPY Dockerfile /d\n" * 8
    process = begin(engine, dockerfile)
    time.sleep(delay)
    process.kill()
    process.wait()
    wait_nothing_left(engine)
    assert "Successfully built" in build(engine, dockerfile).stdout
    wait_nothing_left(engine)  # also of a request that came just before its client was killed


def test_crash_in_a_build_orphans_nothing_and_keeps_its_steps(engine: Engine) -> None:
    process = begin_slow(engine)
    engine.kill("engine")
    process.kill()
    process.wait()
    engine.wait_ready()
    wait_nothing_left(engine)
    again = build(engine, SLOW.replace("sleep 60", "sleep 0")).stdout
    assert again.count("Using cache") == 1
    assert "Successfully built" in again


def test_containers_that_are_kept_outlive_a_crash(engine: Engine) -> None:
    build(engine, "FROM busybox\nRUN echo kept\n", "--rm=false", "--no-cache")
    kept = engine.docker("ps", "-aq").stdout.split()
    assert kept
    engine.kill("engine")
    engine.wait_ready()
    assert engine.docker("ps", "-aq").stdout.split() == kept
    engine.docker("rm", *kept)


DOCKERFILE = (member("Dockerfile"), b"FROM busybox\nCOPY . /c\n")


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (b"no archive at all" * 100, "archive/tar: invalid tar header"),
        (archive(DOCKERFILE, (member("big"), b"x" * 100_000))[:50_000], "unexpected EOF"),
        (archive(DOCKERFILE, (member("../escape"), b"x")), "outside"),
        (archive(DOCKERFILE, (member("null", tarfile.CHRTYPE), b"")), "is a device"),
        (archive((member("Dockerfile", tarfile.SYMTYPE, "/etc/hostname"), b"")), "Cannot locate"),
        (archive((member("Dockerfile", tarfile.SYMTYPE, "../../../etc/hostname"), b"")), "Cannot locate"),
        (archive((member("Dockerfile", tarfile.FIFOTYPE), b"")), "Cannot locate"),
        (archive((member("Dockerfile", tarfile.SYMTYPE, "Dockerfile"), b"")), "too many links"),
        (b"", "Cannot locate"),
    ],
    ids=["text", "cut", "dotdot", "device", "link", "relative-link", "fifo", "loop", "empty"],
)
def test_hostile_context_is_refused(engine: Engine, context: bytes, message: str) -> None:
    before = traces_at_rest(engine)
    assert message in post(engine, context)
    wait_for_traces(engine, before)


@pytest.mark.parametrize("source", ["link", "dir/link", "link/../passwd"])
def test_links_in_a_context_end_at_its_top(engine: Engine, source: str) -> None:
    context = archive(
        (member("Dockerfile"), f"FROM busybox\nCOPY {source} /stolen\n".encode()),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("dir/link", tarfile.SYMTYPE, "../../../etc/passwd"), b""),
    )
    assert "file does not exist" in post(engine, context)


def test_links_in_an_image_end_at_its_top(engine: Engine, run: Callable[..., str]) -> None:
    """What is copied over a link lands in the image."""
    build(engine, "FROM busybox\nRUN ln -s /tmp/wh-outside /out\n", "-t", "linked")
    context = archive((member("Dockerfile"), b"FROM linked\nCOPY f /out/\n"), (member("f"), b"here"))
    assert "Successfully tagged" in post(engine, context, "t=copied")
    assert not os.path.lexists("/tmp/wh-outside")
    assert run("copied", "cat", "/tmp/wh-outside/f") == "here"


def test_cache_from_an_image_that_came_without_its_parents(engine: Engine) -> None:
    steps = "FROM busybox\nENV A=1\nRUN echo once >/once\nRUN true\nCMD x\n"
    build(engine, steps, "-t", "source")
    before = engine.docker("image", "inspect", "-f", "{{.Id}}", "source").stdout
    saved = engine.root / "source.tar"
    engine.docker("save", "-o", str(saved), "source")
    engine.docker("rmi", "-f", "source")
    engine.docker("builder", "prune", "-af", "--filter", "shared=true")
    engine.docker("load", "-i", str(saved))
    assert build(engine, steps).stdout.count("Using cache") == 0
    again = build(engine, steps, "--cache-from", "source,nosuch", "-t", "again").stdout
    assert again.count("Using cache") == 4
    assert engine.docker("image", "inspect", "-f", "{{.Id}}", "again").stdout == before
    other = build(engine, steps.replace("CMD x", "CMD y"), "--cache-from", "source").stdout
    assert other.count("Using cache") == 3


def test_steps_of_an_image_that_is_cached_from_are_its_parents(engine: Engine) -> None:
    """They would be images of their own otherwise."""
    steps = "FROM busybox\nENV a=1\nENV b=2\nENV c=3\n"
    build(engine, steps, "-t", "parents")
    saved = engine.root / "parents.tar"
    engine.docker("save", "-o", str(saved), "parents")
    engine.docker("rmi", "parents")
    engine.docker("load", "-i", str(saved))
    before = engine.docker("images", "-q").stdout
    assert build(engine, steps, "--cache-from", "parents").stdout.count("Using cache") == 3
    assert engine.docker("images", "-q").stdout == before
    assert engine.docker("image", "inspect", "-f", "{{.Parent}}", "parents").stdout.strip()
    assert engine.docker("rmi", "parents").stdout.count("Deleted:") == 3


def test_prune_takes_dead_ends_and_leaves_results(engine: Engine) -> None:
    build(engine, "FROM busybox\nRUN echo result >/r\n", "-t", "result")
    unnamed = build(engine, "FROM busybox\nRUN echo unnamed >/u\n", "-q").stdout.strip()
    failed = build(engine, "FROM busybox\nRUN echo dead >/d\nRUN false\n", check=False)
    assert failed.returncode == 1
    engine.docker("container", "prune", "-f")
    pruned = engine.docker("builder", "prune", "-f").stdout
    assert "Deleted build cache objects" in pruned
    images = engine.docker("images", "-aq", "--no-trunc").stdout
    assert unnamed in images
    assert "Using cache" in build(engine, "FROM busybox\nRUN echo result >/r\n").stdout
    assert "Deleted" not in engine.docker("builder", "prune", "-f").stdout
    engine.docker("builder", "prune", "-af", "--filter", "shared=true")
    assert "Using cache" not in build(engine, "FROM busybox\nRUN echo result >/r\n").stdout
