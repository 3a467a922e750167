"""What a dead shim left is removed by one process, whoever else was asked to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from services.containerd_shim import reclaim, state
from services.containerd_shim.state import ShimRecord


def _lost(record: ShimRecord) -> ShimRecord | None:
    record.lost = True
    return record


def _another_run(record: ShimRecord) -> ShimRecord | None:
    return ShimRecord(id=record.id, shim_pid=record.shim_pid, shim_start=record.shim_start + 1)


def _removed(_record: ShimRecord) -> ShimRecord | None:
    return None


@pytest.mark.parametrize("becomes", [_lost, _another_run, _removed])
def test_what_another_has_reclaimed_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: object
) -> None:
    record = ShimRecord(id="c", shim_pid=1 << 30, shim_start=1, status="running")
    state.save(str(tmp_path), record)
    (tmp_path / "config.json").write_text(json.dumps({}))
    kept = becomes(record)  # type: ignore[operator]
    claims: list[int] = []

    def claim(directory: Path) -> int:
        """While this process waited for it, another one had it."""
        if kept is None:
            (directory / state.STATE_FILE).unlink()
        else:
            state.save(str(directory), kept)
        claims.append(state.claim(str(directory)))
        return claims[0]

    def destroy(_directory: Path, _record: ShimRecord) -> None:
        raise AssertionError("it was removed twice")

    monkeypatch.setattr(reclaim, "_claim", claim)
    monkeypatch.setattr(reclaim, "_destroy", destroy)
    reclaim.reclaim(tmp_path)
    assert state.load(tmp_path) == kept
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(claims[0])


def test_a_zombie_has_ended() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        began = state.start_time(process.pid)
        assert state.is_alive(process.pid, began)
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert state.start_time(process.pid) == 0
        assert not state.is_alive(process.pid, began)
