"""The process that forks helpers, without a task service."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psutil

from services.protocol import fdpass
from services.protocol.paths import ExecRoot
from tests.harness.readiness import wait_until


class Zygote:
    """With its socket below *root*; ``pid`` is the present one's."""

    def __init__(self, root: Path) -> None:
        self.exec_root = ExecRoot(root)
        self._listener = fdpass.listen(self.exec_root.zygote, backlog=1024)
        self._start()

    def _start(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (theirs.fileno(), self._listener.fileno())
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "services.containerd_shim.zygote", f"--service-fd={fds[0]}",
                f"--listen-fd={fds[1]}", f"--scratch={self.exec_root.root / 'scratch'}",
            ],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def revive(self) -> None:
        """Start another one if it was killed."""
        if self._process.poll() is not None:
            self._ours.close()
            self._start()

    def settle(self) -> None:
        """Until no helper runs, and a zygote does."""

        def settled() -> bool:
            self.revive()
            return not psutil.Process(self.pid).children() and self._process.poll() is None

        wait_until(settled, "helpers have ended")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._ours.close()
        self._listener.close()
