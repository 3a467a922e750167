"""What the build cache keeps, shows and gives back."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from typing import Any

import pytest

from tests.harness.builds import files, post
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

TABLES = ("build_cache", "build_results", "build_uses")


@pytest.fixture(autouse=True)
def clean(engine: Engine) -> None:
    """Only the base image, and no cache."""
    engine.remove_containers()
    for image in set(engine.docker("images", "-aq").stdout.split()) - base(engine):
        engine.docker("rmi", "-f", image, check=False)
    engine.docker("builder", "prune", "-af", "--filter", "shared=true")


def base(engine: Engine) -> set[str]:
    return set(engine.docker("images", "-q", "busybox").stdout.split())


def build(engine: Engine, dockerfile: str, query: str = "") -> str:
    return post(engine, files(Dockerfile=dockerfile), query)


def records(engine: Engine) -> list[dict[str, Any]]:
    url = "http://docker/v1.51/system/df?type=build-cache"
    command = ["curl", "-sS", "--unix-socket", str(engine.socket), url]
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[
        "BuildCache"
    ]
    return found


def rows(engine: Engine) -> int:
    with closing(sqlite3.connect(engine.data_root / "engine.db")) as connection:
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]
    return sum(counts)


def prune(engine: Engine, query: str = "", **filters: str) -> dict[str, Any]:
    words = ["--url-query", f"filters={json.dumps({name: [text] for name, text in filters.items()})}"]
    done = subprocess.run(
        ["curl", "-sS", "-X", "POST", "--unix-socket", str(engine.socket), *(words if filters else ()),
         f"http://docker/v1.48/build/prune?{query}"],
        capture_output=True, check=True,
    )  # fmt: skip
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def fail(engine: Engine, size: int) -> None:
    """A build whose second step makes *size* bytes and whose third fails."""
    zeros = f"RUN head -c {size} /dev/zero >/zeros"
    assert "non-zero code: 1" in build(engine, f"FROM busybox\nENV SIZE={size}\n{zeros}\nRUN false\n")
    engine.remove_containers()


def test_an_image_that_somebody_has_is_no_build_cache(engine: Engine) -> None:
    build(engine, "FROM busybox\nRUN echo x >/x\nCMD y\n", "t=kept")
    assert records(engine) == []
    assert prune(engine) == {"CachesDeleted": None, "SpaceReclaimed": 0}
    assert "Using cache" in build(engine, "FROM busybox\nRUN echo x >/x\n")


def test_stages_are_no_build_cache(engine: Engine) -> None:
    build(engine, "FROM busybox\nRUN echo x >/x\nFROM busybox\nCOPY --from=0 /x /y\n", "t=kept")
    assert records(engine) == []
    assert prune(engine, "all=1") == {"CachesDeleted": None, "SpaceReclaimed": 0}
    assert len(engine.docker("images", "-f", "dangling=true", "-q").stdout.split()) == 1


def test_dead_ends_are_shown_and_pruned(engine: Engine) -> None:
    fail(engine, 5000)
    tip, first = sorted(records(engine), key=lambda one: -int(one["Size"]))
    assert (tip["Size"], tip["Type"], tip["InUse"], tip["Shared"]) == (5000, "regular", False, False)
    assert tip["Parents"] == [first["ID"]]
    assert tip["Description"] == "/bin/sh -c head -c 5000 /dev/zero >/zeros"
    assert tip["UsageCount"] == 1
    fail(engine, 5000)
    assert max(one["UsageCount"] for one in records(engine)) == 2
    assert "5kB" in engine.docker("system", "df").stdout.splitlines()[-1]
    other = next(digit for digit in "012" if digit not in (tip["ID"][0], first["ID"][0]))
    assert prune(engine, id=other) == {"CachesDeleted": None, "SpaceReclaimed": 0}
    since = int(time.time())
    assert prune(engine, parent=first["ID"]) == {"CachesDeleted": [tip["ID"]], "SpaceReclaimed": 5000}
    assert prune(engine)["CachesDeleted"] == [first["ID"]]
    assert rows(engine) == 0
    shown = "--filter=type=builder", f"--since={since}", f"--until={int(time.time()) + 1}"
    events = engine.docker("events", *shown, "--format={{.Action}} {{.Actor.Attributes.reclaimed}}").stdout
    assert "prune 5000" in events.splitlines()


def test_the_least_recently_used_goes_first(engine: Engine) -> None:
    for size in (10_000, 20_000, 40_000):
        fail(engine, size)
    fail(engine, 10_000)
    assert prune(engine, "reserved-space=70000")["CachesDeleted"] is None
    assert prune(engine, "keep-storage=70000")["CachesDeleted"] is None
    assert prune(engine, "max-used-space=60000")["SpaceReclaimed"] == 20_000
    assert sorted(one["Size"] for one in records(engine) if one["Size"]) == [10_000, 40_000]
    assert prune(engine, "min-free-space=1000")["CachesDeleted"] is None
    everything = 1 << 62
    assert prune(engine, f"min-free-space={everything}&reserved-space=10000")["SpaceReclaimed"] == 40_000
    assert prune(engine, f"min-free-space={everything}")["SpaceReclaimed"] == 10_000


def test_cache_mounts_are_records(engine: Engine) -> None:
    mount = "RUN --mount=type=cache,target=/cache head -c 3000 /dev/zero >/cache/zeros"
    build(engine, f"FROM busybox\n{mount}\n", "t=mounted")
    (record,) = records(engine)
    assert (record["Type"], record["Size"], record["UsageCount"]) == ("exec.cachemount", 3000, 1)
    assert prune(engine, type="regular")["CachesDeleted"] is None
    assert prune(engine, type="exec.cachemount") == {"CachesDeleted": [record["ID"]], "SpaceReclaimed": 3000}


def test_filters(engine: Engine) -> None:
    fail(engine, 100)
    for none in ({"until": "24h"}, {"inuse": "true"}, {"shared": "true"}, {"description": "x"}):
        assert prune(engine, **none)["CachesDeleted"] is None
    assert prune(engine, inuse="maybe")["message"] == "invalid filter 'inuse=maybe'"
    assert prune(engine, bogus="1")["message"] == "invalid filter 'bogus'"
    assert "expects an integer" in prune(engine, "keep-storage=much")["message"]
    assert len(prune(engine, private="true", until="1ms")["CachesDeleted"]) == 2


def test_entries_go_with_their_images(engine: Engine) -> None:
    build(engine, "FROM busybox\nRUN echo x >/x\nCMD y\n", "t=gone")
    assert rows(engine)
    engine.docker("rmi", "gone")
    assert rows(engine) == 0
    build(engine, "FROM busybox\nRUN echo x >/x\nCMD y\n")
    engine.docker("image", "prune", "-f")
    assert rows(engine) == 0


def test_the_entries_of_images_go_when_they_are_asked_for(engine: Engine) -> None:
    build(engine, "FROM busybox\nRUN echo x >/x\nCMD y\n", "t=kept")
    assert prune(engine, "all=1") == {"CachesDeleted": None, "SpaceReclaimed": 0}
    assert "Using cache" in build(engine, "FROM busybox\nRUN echo x >/x\n")
    assert len(prune(engine, "all=1", shared="true")["CachesDeleted"]) == 2
    assert engine.docker("run", "--rm", "kept", "cat", "/x").stdout == "x\n"
    assert "Using cache" not in build(engine, "FROM busybox\nRUN echo x >/x\n")


def test_what_a_build_uses_is_not_pruned(engine: Engine) -> None:
    fail(engine, 100)
    command = ["docker", "build", "-"]
    with subprocess.Popen(
        command, env=engine.environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(
            "FROM busybox\nENV SIZE=100\nRUN head -c 100 /dev/zero >/zeros\n"
            "RUN until test -e /go; do usleep 50000; done; test -s /zeros\n"
        )
        process.stdin.close()
        while "Running in" not in process.stdout.readline():
            pass
        assert all(one["InUse"] for one in records(engine))
        assert prune(engine, "all=1")["CachesDeleted"] is None
        assert "deleted" not in engine.docker("image", "prune", "-f").stdout
        wait_until(lambda: engine.docker("ps", "-q").stdout != "", "the step runs")
        engine.docker("exec", engine.docker("ps", "-q").stdout.strip(), "touch", "/go")
        assert "Successfully built" in process.stdout.read()
    assert process.returncode == 0


def test_an_older_result_is_found_when_the_newest_is_gone(engine: Engine) -> None:
    steps = "FROM busybox\nRUN echo x >/x\n"
    build(engine, steps, "t=first")
    build(engine, steps, "t=second&nocache=1")
    assert build(engine, steps, "q=1").endswith(image(engine, "second") + '\\n"}\r\n')
    engine.docker("rmi", "second")
    assert build(engine, steps, "q=1").endswith(image(engine, "first") + '\\n"}\r\n')


def image(engine: Engine, name: str) -> str:
    return engine.docker("image", "inspect", "-f", "{{.Id}}", name).stdout.strip()
