"""The engine's calls to a task service that goes away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from services.engine import shims
from services.engine.shims import Shims
from services.protocol import task_pb2 as pb
from services.protocol.errors import Unavailable


class Dying:
    """A method whose service is killed under the first *times* calls."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def __call__(self, request: Any, *, wait_for_ready: bool = False) -> pb.StateResponse:
        if self.left:
            self.left -= 1
            raise AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "Socket closed")
        return pb.StateResponse(id=request.id)


async def asked(tmp_path: Path, times: int) -> str:
    client = Shims(tmp_path / "socket")
    try:
        client._tasks.State = Dying(times)
        return (await client.state("c")).id
    finally:
        await client.close()


@pytest.mark.parametrize("times", [0, 1, 2, shims.ATTEMPTS - 1])
def test_a_call_outlives_services_that_are_killed_one_after_the_other(tmp_path: Path, times: int) -> None:
    assert asyncio.run(asked(tmp_path, times)) == "c"


def test_a_service_that_always_dies_is_told_in_the_end(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Socket closed"):
        asyncio.run(asked(tmp_path, shims.ATTEMPTS))
