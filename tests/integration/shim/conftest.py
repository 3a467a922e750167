"""One task service for each module; crash tests make their own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.shims import Service


def _service() -> Iterator[Service]:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    service = Service(Path(tempfile.mkdtemp(prefix="wh-shim-")))
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    yield from _service()


@pytest.fixture
def own_service() -> Iterator[Service]:
    yield from _service()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """An id of the test's own."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:60] + "0"
