"""e2e tests go through the docker command and docker-py, against a daemon of each module's own."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import SESSION
from tests.harness.engine import Engine


@pytest.fixture(scope="session")
def debian_directory() -> Iterator[Path]:
    """Where ``harness.debian`` keeps a root file system and packages: they are made once for all tests."""
    if os.geteuid() != 0:
        pytest.skip("debootstrap needs root")
    if shutil.which("debootstrap") is None:
        pytest.skip("there is no debootstrap")
    directory = Path(tempfile.mkdtemp(prefix=f"wh-{SESSION}-debian-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def name(engine: Engine) -> Iterator[str]:
    """A container name that nobody else uses; what has it at the end is removed."""
    unique = f"t-{uuid.uuid4().hex[:10]}"
    yield unique
    engine.docker("rm", "-f", "-v", unique, check=False)


@pytest.fixture
def run(engine: Engine, docker_command: str) -> Callable[..., str]:
    """``docker run --rm busybox ...``: standard output."""

    def call(*arguments: str, stdin: str | None = None) -> str:
        return engine.docker("run", "--rm", *arguments, stdin=stdin).stdout

    return call
