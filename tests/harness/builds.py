"""Builds as tests see them: contexts made in memory, requests without a client's help, and what is left."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.harness.engine import Engine
from tests.harness.readiness import wait_until


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of *members*, whatever they are."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """An entry: a file, a link to *target*, a device (``/dev/null``'s), ..."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o644
    info.devmajor, info.devminor = (1, 3) if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE) else (0, 0)
    return info


def files(**contents: str | bytes) -> bytes:
    """A tar of plain files; a name's ``__`` is a slash, ``_dot_`` a dot."""
    named = {name.replace("__", "/").replace("_dot_", "."): content for name, content in contents.items()}
    return archive(
        *((member(name), text.encode() if isinstance(text, str) else text) for name, text in named.items())
    )


def post(engine: Engine, context: bytes = b"", query: str = "", **parameters: str) -> str:
    """``POST /build`` as it is answered; the status is not looked at."""
    words = [word for key, value in parameters.items() for word in ("--url-query", f"{key}={value}")]
    done = subprocess.run(
        ["curl", "-sS", "--unix-socket", str(engine.socket), "--data-binary", "@-", *words,
         f"http://docker/v1.41/build?{query}"],
        input=context, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout.decode()


def said(answer: str) -> str:
    """What the steps of a build wrote."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in answer.splitlines()]
    return "".join(line.get("stream", "") for line in lines)


def begin(engine: Engine, dockerfile: str) -> subprocess.Popen[bytes]:
    """A build by the docker command that goes on by itself."""
    process = subprocess.Popen(
        ["docker", "build", "-"],
        env=engine.environment,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(dockerfile.encode())
    process.stdin.close()
    return process


def leftovers(engine: Engine) -> list[str]:
    """Containers, contexts and shims; nothing but builds runs in these tests."""
    return engine.docker("ps", "-aq").stdout.split() + _going(engine)


def _going(engine: Engine) -> list[str]:
    """What no build keeps: contexts, and shims, which end a moment after their containers."""
    contexts = [path.name for path in (engine.data_root / "tmp").glob("*build-*")]
    return contexts + [path.name for path in (engine.exec_root / "shims").iterdir()]


def wait_nothing_left(engine: Engine, timeout: float = 90) -> None:
    """Raises ``AssertionError`` that says what is left after *timeout* seconds."""
    try:
        wait_until(lambda: not leftovers(engine), "nothing is left", timeout)
    except TimeoutError as error:
        listed = engine.docker("ps", "-a", "--no-trunc").stdout
        raise AssertionError(f"{error}: {leftovers(engine)}\n{listed}\n{engine.log_tail(80)}") from None


def signals(engine: Engine, since: float) -> list[str]:
    """What containers were sent *since* a Unix time, as events tell it."""
    window = ["--since", f"{since:.9f}", "--until", f"{time.time():.9f}"]
    shown = ["--filter", "event=kill", "--format", "{{.Actor.Attributes.signal}}"]
    return engine.docker("events", *window, *shown).stdout.split()


def traces(engine: Engine) -> set[str]:
    """All that a build can leave: :func:`leftovers`, layers, images, mounts, and processes at work.

    An image's init layer is made with its first container, and goes with the image.
    """
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        *leftovers(engine),
        *(str(path) for path in (engine.data_root / "overlay2").iterdir() if not path.name.endswith("-init")),
        *engine.docker("images", "-aq").stdout.split(),
        *(line for line in mounts if str(engine.root) in line),
        *workers(engine),
    }


def traces_at_rest(engine: Engine) -> set[str]:
    """:func:`traces` when what a build before has begun has ended: helpers, shims and removals."""

    def are_at_rest() -> bool:
        return not any(workers(engine)) and not _going(engine) and _are_settled(engine)

    wait_until(are_at_rest, "nothing is at work")
    return traces(engine)


def _are_settled(engine: Engine) -> bool:
    """Layers' directories are those that the database knows: a container is listed no more a moment
    before its layer goes."""
    with contextlib.closing(
        sqlite3.connect(f"file:{engine.data_root}/engine.db?mode=ro", uri=True)
    ) as database:
        images = {row[0] for row in database.execute("SELECT cache_id FROM layers")}
        containers = {row[0] for row in database.execute("SELECT container_id FROM rw_layers")}
    names = {path.name for path in (engine.data_root / "overlay2").iterdir()} - {"l", "trash"}
    listed = set(engine.docker("ps", "-aq", "--no-trunc").stdout.split())
    return containers == listed and {name for name in names if not name.endswith("-init")} == (
        images | containers
    )


def wait_for_traces(engine: Engine, wanted: set[str], timeout: float = 90) -> None:
    """A build's answer ends a moment before the processes that worked for it.

    Raises ``AssertionError`` that says what is left, or missing, after *timeout* seconds.
    """
    try:
        wait_until(lambda: traces(engine) == wanted, "nothing is left", timeout)
    except TimeoutError as error:
        raise AssertionError(f"{error}: {traces(engine) ^ wanted}\n{engine.log_tail(80)}") from None


def workers(engine: Engine) -> Iterator[str]:
    """Helpers of *engine* and the programs they run; emptying the trash goes on behind a build's back."""
    zygotes = psutil.Process(engine.service_pids()["containerd-shim"]).children()
    for process in [child for zygote in zygotes for child in zygote.children(recursive=True)]:
        try:
            title = " ".join(process.cmdline())
            if "wharfd: docker-remove" in title:
                continue
            if "wharfd: docker-" in title or process.cwd().startswith(str(engine.root)):
                yield f"{process.pid} {title}"
        except psutil.Error:
            continue


@dataclass(frozen=True)
class Context:
    """A directory that Dockerfiles are built with, by the docker command."""

    engine: Engine
    directory: Path

    def build(self, text: str, *flags: str, check: bool = True) -> str:
        """The output of a build of *text* on busybox, without colours. *check*: it must succeed."""
        (self.directory / "Dockerfile").write_text(f"FROM busybox\n{text}")
        done = self.engine.docker("build", *flags, str(self.directory), check=False)
        output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        assert not check or done.returncode == 0, output
        return output

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
