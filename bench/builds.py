"""Measures of ``POST /build``: the classic builder of both daemons, with contexts packed beforehand."""

from __future__ import annotations

import functools
import io
import json
import tarfile
import time
import urllib.parse

from bench.client import Client
from bench.engines import Daemon
from tests.harness.readiness import UnixConnection

Samples = dict[str, list[float]]

#: Twelve steps, four of which run a command.
TWELVE = """FROM busybox
ENV APP=/app LEVEL=1
WORKDIR /app
RUN echo deps >deps && mkdir -p lib && for i in 1 2 3 4 5; do echo $i >lib/$i; done
COPY src /app/src
RUN cat src/* >all && wc -c all
LABEL kind=bench
RUN cp all copy && rm all
EXPOSE 8080
COPY main /app/main
RUN chmod 755 main && ls -l /app >listing
CMD ["/app/main"]
"""
COPIES = "FROM busybox\nCOPY tree /tree\n"
#: Bytes of one file of the large context.
FILE = 10_000
STAGES = 4


def _spinning(rounds: int) -> str:
    spin = f"i=0; while [ $i -lt {rounds} ]; do i=$((i+1)); done; echo $i >/done"
    stages = [f"FROM busybox AS s{n}\nRUN : {n}; {spin}\n" for n in range(STAGES)]
    copies = [f"COPY --from=s{n} /done /done{n}\n" for n in range(STAGES)]
    return "".join([*stages, "FROM busybox\n", *copies])


def context(dockerfile: str, files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in {"Dockerfile": dockerfile.encode(), **files}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_700_000_000
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


@functools.cache
def large(files: int) -> bytes:
    """A context of *files* files that all differ, a hundred in a directory."""
    block = bytes(range(256)) * (FILE // 256 + 1)
    tree = {f"tree/d{n // 100}/f{n}": (f"{n:016}".encode() + block)[:FILE] for n in range(files)}
    return context(COPIES, tree)


def build(daemon: Daemon, archive: bytes, **query: str) -> float:
    """Seconds. Raises ``RuntimeError`` for a build that failed."""
    connection = UnixConnection(daemon.socket, timeout=600)
    began = time.perf_counter()
    url = "/build?" + urllib.parse.urlencode({"rm": "1", **query})
    connection.request("POST", url, archive, {"Content-Type": "application/x-tar"})
    lines = connection.getresponse().read().splitlines()
    took = time.perf_counter() - began
    connection.close()
    if not lines or "error" in (last := json.loads(lines[-1])) or "message" in last:
        raise RuntimeError(f"{daemon.name}: {lines[-1:]!r}")
    return took


def _forget(daemon: Daemon) -> None:
    """All images but those that have names."""
    client = Client(daemon.socket)
    client.call("POST", "/images/prune")
    client.close()


def steps(daemon: Daemon, repeats: int) -> Samples:
    sources = {f"src/f{n}": f"source {n}\n".encode() * 100 for n in range(20)}
    archive = context(TWELVE, {"main": b"#!/bin/sh\necho main\n", **sources})
    build(daemon, archive)
    cold = [1000 * build(daemon, archive, nocache="1") for _ in range(repeats)]
    cached = [1000 * build(daemon, archive) for _ in range(repeats)]
    _forget(daemon)
    return {"build of 12 steps, cold": cold, "build of 12 steps, cached": cached}


def files(daemon: Daemon, repeats: int, count: int) -> Samples:
    archive = large(count)
    samples = [1000 * build(daemon, archive, nocache="1") for _ in range(repeats)]
    _forget(daemon)
    return {f"build with {count} files, {len(archive) // 1_000_000} MB": samples}


def stages(daemon: Daemon, repeats: int, rounds: int) -> Samples:
    archive = context(_spinning(rounds), {})
    samples = [1000 * build(daemon, archive, nocache="1") for _ in range(repeats)]
    _forget(daemon)
    return {f"build of {STAGES} busy stages": samples}
