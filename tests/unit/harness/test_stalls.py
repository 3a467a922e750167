"""What is held stands still, and neither it nor its parent is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import stalls
from tests.harness.readiness import wait_until

_PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGCONT, lambda *_: print("continued", flush=True))
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def _is_held(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "t"


def test_a_held_process_is_not_told(process: subprocess.Popen[str]) -> None:
    with stalls.held(process.pid):
        wait_until(lambda: _is_held(process.pid), "it is held")
    assert not _is_held(process.pid)
    process.terminate()
    assert process.stdout is not None
    assert (process.stdout.read(), process.wait()) == ("", 7)


def test_a_signal_to_a_held_process_arrives_afterwards(process: subprocess.Popen[str]) -> None:
    with stalls.held(process.pid):
        wait_until(lambda: _is_held(process.pid), "it is held")
        # Not Popen.terminate, which waits for the process: its stops are for who holds it.
        os.kill(process.pid, signal.SIGTERM)
        assert _is_held(process.pid)
    assert process.wait() == 7


def test_a_process_that_has_ended_is_left_alone() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with stalls.held(process.pid):
            pass
    assert process.returncode == 0
