"""Builds, each with a service killed at one system call after the other, as ``test_crash_points`` has it.

Nothing is left, a second build takes all finished steps from the cache, and its image is right.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import own_addresses
from tests.e2e import leftovers, victims
from tests.e2e.crash import check_no_orphans
from tests.harness import crashpoints
from tests.harness.crashpoints import CALLS, CrashPoint
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

crashpoints.require()
pytestmark = pytest.mark.timeout(2400)

#: The first number, and how far apart they are.
FIRST, STEP = (int(os.environ.get(f"WHARFD_CRASH_{name}", "1")) for name in ("FIRST", "STEP"))

_COPY = """
FROM busybox
COPY file /f
COPY many /m/
ADD archive.tar /unpacked
COPY --chmod=600 --chown=1:1 file /other/
WORKDIR /w/x
"""
_RUN = """
FROM busybox
VOLUME /data
ENV A=b
RUN echo run >/r; echo lost >/data/x; rm /bin/true
"""
_MOUNTS = """
FROM busybox AS one
RUN echo one >/o
FROM busybox
RUN --mount=type=cache,target=/k --mount=target=/c,rw --mount=type=tmpfs,target=/t \\
 --mount=from=one,target=/n,rw --mount=type=cache,id=e,target=/e \\
 echo x >/k/x; cat /n/o /c/file >/r; touch /c/y /n/y /t/y
"""
_STAGES = """
FROM busybox AS one
RUN echo one >/o; mkdir /d; echo x >/d/x
FROM scratch AS two
COPY file /f
FROM busybox
COPY --from=one /o /d /s/
COPY --from=two / /two
"""


@dataclass(frozen=True)
class Build:
    """``flags`` are of the build that is cut off; ``look`` prints ``content`` in its image."""

    name: str
    dockerfile: str
    look: str
    content: str
    flags: tuple[str, ...] = ()
    prepare: tuple[tuple[str, ...], ...] = ()
    act: tuple[str, ...] = ()
    #: Whether steps of the build before are in the cache.
    cached: bool = True


_AGAIN = ("build", "-t", "point", "{context}")
_RUN_LOOK = "cat /r; ls /data; ls /bin/true || echo gone"
BUILDS = (
    Build("copy", _COPY, "cat /f /unpacked/in /other/file; ls /m | wc -l; stat -c %a-%u /other/file; pwd",
          "file\nin\nfile\n20\n600-1\n/w/x\n"),
    Build("run", _RUN, _RUN_LOOK, "run\ngone\n"),
    Build("mounts", _MOUNTS, "cat /r; ls -d /k /c /n /e /t || echo gone", "one\nfile\ngone\n"),
    Build("stages", _STAGES, "cat /s/o /s/x /two/f", "one\nx\nfile\n", ("-t", "point:a", "-t", "other:b")),
    Build("no-cache", _RUN, _RUN_LOOK, "run\ngone\n", ("--no-cache",), (_AGAIN,), cached=False),
    Build("cached", _STAGES, "cat /s/o /s/x /two/f", "one\nx\nfile\n", (), (_AGAIN,)),
    Build("kept", _RUN, _RUN_LOOK, "run\ngone\n", ("--rm=false",)),
    Build("failing", _RUN + "RUN echo a >/a; false\n", _RUN_LOOK, "run\ngone\n", ("--force-rm",)),
    Build("squash", _STAGES, "cat /s/o /s/x /two/f", "one\nx\nfile\n", ("--squash",)),
    Build("prune", _MOUNTS, "cat /r", "one\nfile\n", (), (_AGAIN, ("rmi", "point")),
          ("builder", "prune", "-a", "-f")),
)  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    daemon = Engine("--experimental", *own_addresses())
    try:
        daemon.start()
        daemon.load_images()
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "many").mkdir()
    for path in (tmp_path / "file", *(tmp_path / "many" / f"{number}" for number in range(20))):
        path.write_text("file\n")
    with tarfile.open(tmp_path / "archive.tar", "w") as tar:
        info = tarfile.TarInfo("in")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"in\n"))
    return tmp_path


@pytest.mark.parametrize("group", CALLS)
@pytest.mark.parametrize("service", ["engine", "zygote", "containerd-shim", "apiserver"])
@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.name)
def test_killed_at(engine: Engine, name: str, context: Path, build: Build, service: str, group: str) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "1000")
    mounts = leftovers.mounts(engine)
    for number in range(FIRST, crashpoints.LAST + 1, STEP):
        point = f"{service} at {group} {number}"
        try:
            reached = _play(engine, build, context, service, group, number)
            _check(engine, name, mounts)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{point}: {error}\n{engine.log_tail()}") from error
        if not reached:
            break


def _play(engine: Engine, build: Build, context: Path, service: str, group: str, number: int) -> bool:
    def named(words: tuple[str, ...]) -> list[str]:
        return [word.format(context=context) for word in words]

    (context / "Dockerfile").write_text(build.dockerfile)
    for command in build.prepare:
        engine.docker(*named(command))
    wait_until(lambda: victims.is_steady(engine), "services run")
    act = build.act or ("build", "-t", "point", *build.flags, "{context}")
    with CrashPoint(victims.victim(engine, service), group, number) as point:
        cut = engine.docker(*named(act), check=False)
        reached = point.reached
    engine.wait_ready()
    if not build.flags and service == "engine":
        _wait_for_containers(engine)
    again = engine.docker(*named(_AGAIN), check=build.name != "failing")
    if build.cached:
        lost = _finished(cut.stdout) - _from_cache(again.stdout)
        assert not lost, f"not from the cache: {lost}\n{cut.stdout}{cut.stderr}\n{again.stdout}"
    if build.name != "failing":
        looked = engine.docker("run", "--rm", "point", "sh", "-c", build.look).stdout
        assert looked == build.content, looked
    return reached


def _wait_for_containers(engine: Engine) -> None:
    def none() -> bool:
        return len(engine.client.api.containers(all=True)) == 1

    wait_until(none, "the containers of the build are gone")


def _steps(output: str) -> list[str]:
    return re.split(r"^Step \d+/\d+ : ", output, flags=re.MULTILINE)[1:]


def _finished(output: str) -> set[str]:
    """What a build has said is done: steps and their images."""
    return {
        f"{step.splitlines()[0]} {found[-1]}"
        for step in _steps(output)
        if (found := re.findall(r"^ ---> ([0-9a-f]{12})$", step, re.MULTILINE))
    }


def _from_cache(output: str) -> set[str]:
    cached = [one for one in _steps(output) if one.startswith("FROM") or "Using cache" in one]
    return _finished("".join(f"Step 1/1 : {one}" for one in cached))


def _check(engine: Engine, name: str, mounts: list[str]) -> None:
    for image in engine.client.api.images():
        for tag in image["RepoTags"]:
            if tag.startswith(("point:", "other:")):
                engine.docker("rmi", tag)
    leftovers.clean(engine, keep=name)
    engine.docker("builder", "prune", "-a", "-f")
    leftovers.clean(engine, keep=name)
    check_no_orphans(engine, set())
    leftovers.check(engine, name)
    wait_until(lambda: leftovers.mounts(engine) == mounts, "no mount is left")
    leftovers.check_builds(engine)
