"""Health probes that say nothing of the container."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.engine.containers import execs, health
from services.protocol.shim import EXEC_IN_PAUSED


def test_a_probe_that_met_a_pause_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit pauses the container between the look at its state and the start of the probe."""

    async def nothing(*_: object) -> None:
        return None

    async def refused(_services: Any, exec_: Any, output: bytearray, _limit: int) -> None:
        output += f"{EXEC_IN_PAUSED}\r\n".encode()
        exec_.exit_code = execs.CANNOT_INVOKE

    monkeypatch.setattr(execs, "register", lambda *_: None)
    monkeypatch.setattr(execs, "prepare", nothing)
    monkeypatch.setattr(execs, "refresh", nothing)
    monkeypatch.setattr(health, "capture", refused)
    entry = SimpleNamespace(id="c", definition=SimpleNamespace(config=SimpleNamespace(user="")))
    probe = health._probe(cast("Any", None), cast("Any", entry), health.Check(command=["true"]))
    assert asyncio.run(probe) is None
