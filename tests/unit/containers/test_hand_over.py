"""The engine's own connections to a shim: what the shim is handed when who wanted it has given up."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.engine.builder import running
from services.engine.containers.capture import capture
from services.engine.containers.model import ContainerState, Runtime
from services.protocol import fdpass
from services.protocol.paths import ExecRoot

ID = "0123456789ab"


async def nothing(*_: object) -> None:
    return None


async def run_step(services: Any) -> None:
    entry = SimpleNamespace(id=ID, runtime=Runtime(), state=ContainerState())
    await running.run(services, cast("Any", entry), running.Speech(), ["true"])


async def check_health(services: Any) -> None:
    await capture(services, cast("Any", SimpleNamespace(id="exec", container_id=ID)), bytearray(), 1)


@pytest.mark.parametrize("begin", [run_step, check_health])
def test_cancelled_in_a_hand_over_no_other_descriptor_goes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: Callable[[Any], Coroutine[Any, Any, None]]
) -> None:
    """The thread goes on, and the number that it was given may be another file's by then."""
    services = SimpleNamespace(exec_root=ExecRoot(tmp_path))
    path = services.exec_root.shim_socket(ID)
    path.parent.mkdir(parents=True)
    begun, go_on, connect = threading.Event(), threading.Event(), fdpass.connect

    def late(path: str) -> socket.socket:
        begun.set()
        go_on.wait()
        return connect(path)

    monkeypatch.setattr(fdpass, "connect", late)
    monkeypatch.setattr(running, "ensure_streams", nothing)

    async def work() -> None:
        task = asyncio.create_task(begin(services))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
        go_on.set()
        connection, _ = await asyncio.to_thread(shim.accept)
        with connection:
            _, (handed,) = fdpass.receive(connection, fdpass.HandoverEnvelope)
            fdpass.send(connection, fdpass.HandoverAck())
        assert stat.S_ISSOCK(os.fstat(handed).st_mode)
        for fd in (handed, *others):
            os.close(fd)

    with fdpass.listen(path) as shim:
        asyncio.run(work())
