"""Process groups of tests: an engine with its helpers, killed as a machine's crash would do it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.harness.readiness import wait_until


def kill_group(leader: int) -> int:
    """SIGKILL for our child *leader* and its group; its wait status, once all of them have ended.

    What a signal has been sent to may be in a system call, which goes to its end first.
    """
    os.killpg(leader, signal.SIGKILL)
    _, status = os.waitpid(leader, 0)
    wait_until(lambda: not _lives(leader), "the process group has ended")
    return status


def _lives(group: int) -> bool:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                state, _, its_group = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(its_group) == group and state not in "ZX":
                return True
    return False
