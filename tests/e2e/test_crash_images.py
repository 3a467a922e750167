"""kill -9 of the engine in the middle of load, pull, commit and rmi: the old state or the new one.

What the database says, what is on disk and what the API shows must agree after each restart, and whatever
was cut off can be done then.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import leftovers
from tests.harness.engine import Engine
from tests.harness.images import busybox_layer
from tests.integration.registry.conftest import layer
from tests.integration.registry.servers import BINARY, Registry
from tests.suites.trees import image_archive

#: Seconds from the start of an operation to the kill: one near its beginning, middle and end.
DELAYS = (0.05, 0.15, 0.4)
LAYERS = [busybox_layer(), *(layer({f"{n}/{i}": os.urandom(3000) for i in range(300)}) for n in range(3))]
NAME = "crash:1"


def agree(engine: Engine) -> None:
    leftovers.check_images(engine, {path.name for path in (engine.data_root / "containers").iterdir()})


def check(engine: Engine) -> None:
    agree(engine)
    for identity in set(engine.docker("images", "-aq", "--no-trunc").stdout.split()):
        done = engine.docker(
            "run", "--rm", identity, "sh", "-c", "cat /bin/* /[0-9]/* >/dev/null 2>&1; echo whole"
        )
        assert done.stdout == "whole\n"


def crashed(engine: Engine, delay: float, *command: str) -> int:
    """The command's status; the engine is killed *delay* seconds (and a bit) after its start."""
    client = engine.popen(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(delay + random.uniform(0, 0.04))
    engine.kill("engine")
    engine.wait_ready()
    return client.wait(180)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crash") / "image.tar"
    path.write_bytes(image_archive([([NAME], LAYERS)]))
    return path


@pytest.fixture
def registry(engine: Engine, archive: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Has the image under the name that is given; beside it the image's id."""
    if BINARY is None:
        pytest.skip("there is no docker-registry")
    made = Registry(tmp_path)
    try:
        name = f"{made.host}/{NAME}"
        engine.docker("load", "-q", "-i", str(archive))
        identity = engine.docker("image", "inspect", "-f", "{{.Id}}", NAME).stdout
        engine.docker("tag", NAME, name)
        engine.docker("push", "-q", name)
        engine.docker("rmi", NAME, name)
        yield name, identity
    finally:
        made.close()


def shown(engine: Engine, name: str) -> str:
    """The image's id, "" if it is not there."""
    return engine.docker("image", "inspect", "-f", "{{.Id}}", name, check=False).stdout.strip()


@pytest.mark.parametrize("delay", DELAYS)
def test_load(engine: Engine, archive: Path, delay: float) -> None:
    status = crashed(engine, delay, "load", "-q", "-i", str(archive))
    check(engine)
    assert shown(engine, NAME) or status
    engine.docker("load", "-q", "-i", str(archive))
    check(engine)
    engine.docker("rmi", "-f", NAME)
    # An image of the load that was cut off may be there without its name.
    engine.docker("image", "prune", "-f")
    check(engine)


@pytest.mark.parametrize("delay", DELAYS)
def test_pull(engine: Engine, registry: tuple[str, str], delay: float) -> None:
    name, identity = registry
    status = crashed(engine, delay, "pull", "-q", name)
    check(engine)
    assert shown(engine, name) in ("", identity.strip())
    assert shown(engine, name) or status
    engine.docker("pull", "-q", name)
    assert shown(engine, name) == identity.strip()
    check(engine)
    engine.docker("rmi", name)
    check(engine)


@pytest.mark.parametrize("delay", DELAYS)
def test_commit(engine: Engine, name: str, delay: float) -> None:
    made = "for d in 1 2 3; do mkdir /$d; for i in $(seq 200); do echo $i >/$d/$i; done; done"
    engine.docker("run", "--name", name, "busybox", "sh", "-c", made)
    status = crashed(engine, delay, "commit", name, NAME)
    check(engine)
    assert shown(engine, NAME) or status
    engine.docker("commit", name, NAME)
    assert engine.docker("run", "--rm", NAME, "sh", "-c", "cat /3/* | wc -l").stdout == "200\n"
    engine.docker("rm", name)
    engine.docker("rmi", NAME)
    engine.docker("image", "prune", "-f")
    check(engine)


@pytest.mark.parametrize("delay", (0.0, 0.03, 0.1))
def test_rmi(engine: Engine, archive: Path, delay: float) -> None:
    engine.docker("load", "-q", "-i", str(archive))
    identity = shown(engine, NAME)
    status = crashed(engine, delay, "rmi", NAME)
    check(engine)
    left = shown(engine, NAME)
    assert left in ("", identity)
    assert not left or status
    engine.docker("rmi", "-f", identity, check=False)
    assert not shown(engine, identity)
    check(engine)


def test_a_storm_of_kills(engine: Engine, archive: Path) -> None:
    """Loads and removals one after the other, and the engine killed again and again meanwhile."""
    loop = f"while :; do docker load -q -i {archive}; docker rmi -f {NAME}; done"
    client = subprocess.Popen(
        ["sh", "-c", loop],
        env=engine.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(4):
            time.sleep(random.uniform(0.2, 0.8))
            engine.kill("engine")
            engine.wait_ready()
    finally:
        _end(client.pid, client.wait)
    agree(engine)  # a load whose client has gone ends by itself
    # What a request that nobody waits for is still at ends here; nobody is left who would repeat it.
    engine.kill("apiserver")
    engine.kill("engine")
    engine.wait_ready()
    check(engine)
    engine.docker("rmi", "-f", NAME, check=False)
    engine.docker("image", "prune", "-f")
    assert set(engine.docker("images", "-q").stdout.split()) == {shown(engine, "busybox")[7:19]}
    check(engine)


def _end(group: int, wait: Callable[[], int]) -> None:
    os.killpg(group, 9)
    wait()
