"""e2e tests go through the docker command and docker-py, against a daemon of each module's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.harness.engine import Engine


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
