"""What the tests of a container's life leave out."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest

from services.engine.containers import start
from services.protocol import oci


async def _nothing() -> None:
    return None


@pytest.fixture
def no_documents() -> Iterator[None]:
    """The OCI document is another module's business."""
    with (
        mock.patch.object(start, "build_spec", return_value=oci.Spec()),
        mock.patch.object(start, "prepare_mounts", return_value=([], _nothing)),
    ):
        yield
