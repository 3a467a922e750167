"""Kills a process at a chosen system call: every state that ``kill -9`` can leave, one by one.

A storm of kills hits the wide windows between two system calls; the narrow ones are found on somebody
else's machine. strace(1) attached to a service reaches each of them: the call does not happen any more,
and what came before it did.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from tests.harness.readiness import wait_until

#: Groups of system calls that change what outlives a process, each a set for strace.
CALLS = {
    "mkdir": "mkdir,mkdirat",
    "create": "open,openat,openat2,creat",
    "rename": "rename,renameat,renameat2",
    "remove": "unlink,unlinkat,rmdir",
    "link": "symlink,symlinkat,link,linkat",
    "write": "write,pwrite64,writev,copy_file_range,sendfile",
    "sync": "fsync,fdatasync",
    "mount": "mount,umount2,move_mount,fsmount,open_tree,fsopen",
    "send": "sendto,sendmsg",
    "mode": "chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,setxattr,lsetxattr,fsetxattr,utimensat",
    "truncate": "truncate,ftruncate",
    "fork": "clone,clone3,fork,vfork,unshare,setns",
}
#: Seconds that strace has to let go of what it traces.
_DETACH = 3


#: The number of the last call to be tried; 0 where nobody asks for it (``make crash-points`` does).
LAST = int(os.environ.get("WHARFD_CRASH_POINTS", "0"))


def require() -> None:
    """Skip the module of the caller if its tests cannot be, or are not to be, played."""
    if not LAST:
        pytest.skip("WHARFD_CRASH_POINTS is not set", allow_module_level=True)
    if shutil.which("strace") is None:
        pytest.skip("there is no strace", allow_module_level=True)


class CrashPoint:
    """While open: the first thread of *pid*, or of what it forks, to begin its *number*-th call of *group* is
    killed, and its process with it (signal(7): SIGKILL).
    """

    def __init__(self, pid: int, group: str, number: int) -> None:
        calls = CALLS[group]
        self._output = Path(tempfile.mktemp(prefix="wh-strace-"))
        self._command = [
            "strace", "-f", "-qqq", "-o", str(self._output), "-p", str(pid),
            "-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={number}",
        ]  # fmt: skip
        self._pid = pid

    def __enter__(self) -> CrashPoint:
        self._handle = os.pidfd_open(self._pid)
        self._strace = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        wait_until(lambda: self._ended() or all(self._traced()), "every thread is traced")
        self._watch = threading.Thread(target=self._let_go, daemon=True)
        self._watch.start()
        return self

    def _let_go(self) -> None:
        """strace(1) may wait for ever for a thread that began just before the kill, and nobody can reap the
        process until it ends."""
        while self._strace.poll() is None and not self._ended():
            if self._is_zombie():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._strace.wait(_DETACH)
                self._strace.kill()
            time.sleep(0.05)

    def _is_zombie(self) -> bool:
        try:
            return Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return False

    def _traced(self) -> Iterator[bool]:
        tasks: list[Path] = []
        with contextlib.suppress(OSError):  # the process has ended
            tasks += Path(f"/proc/{self._pid}/task").iterdir()
        for task in tasks:
            yield _is_traced(task / "status", self._strace)

    @property
    def reached(self) -> bool:
        """Something has been killed: *pid*, or a call of what it forked has no result."""
        return self._ended() or "= ?\n" in self._output.read_text(errors="replace")

    def _ended(self) -> bool:
        return bool(select.select([self._handle], [], [], 0)[0])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _detach(self._strace)
        self._watch.join()
        os.close(self._handle)
        self._output.unlink(missing_ok=True)


class ThreadPoint:
    """As :class:`CrashPoint` for one *thread* and one system call: none of another thread comes before it."""

    def __init__(self, thread: int, call: str, number: int) -> None:
        self._thread = thread
        self._command = [
            "strace", "-qqq", "-o", os.devnull, "-p", str(thread), "-e", f"trace={call}",
            "-e", f"inject={call}:signal=KILL:when={number}",
        ]  # fmt: skip

    def __enter__(self) -> ThreadPoint:
        self._strace = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        status = Path(f"/proc/{self._thread}/status")
        wait_until(lambda: _is_traced(status, self._strace), "the thread is traced")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _detach(self._strace)


def _is_traced(status: Path, strace: subprocess.Popen[bytes]) -> bool:
    """By *strace*; so is a thread that has ended, of which nothing more is to come."""
    try:
        return f"TracerPid:\t{strace.pid}\n" in status.read_text()
    except OSError:
        return True


def _detach(strace: subprocess.Popen[bytes]) -> None:
    strace.send_signal(signal.SIGTERM)
    try:
        strace.wait(_DETACH)
    except subprocess.TimeoutExpired:  # it waits for a thread that has ended
        strace.kill()
        strace.wait()
