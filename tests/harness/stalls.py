"""Plays tests while their processes stand still now and then (``make stalls``).

A busy host lets any process wait for seconds at any place: the test, the command, a service, a shim, what
runs in a container. A test (or what it tests) that counts on being faster than something else passes a
hundred times on one machine and fails on the next. Here one process after the other, taken at random, is
stopped for a moment (signal(7): SIGSTOP), so that all those orders come within minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
# ptrace(2), from linux/ptrace.h; waitpid(2): __WALL.
_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long
#: What looks at other processes' states itself, or is over in no time whatever happens.
_LEFT_ALONE = {"strace", "linux.uml"}


def descendants(root: int) -> Iterator[int]:
    """All processes below *root*, which has to be a subreaper (prctl(2)) to keep the orphans."""
    try:
        children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    except OSError:  # it has ended
        return
    for child in children:
        yield int(child)
        yield from descendants(int(child))


def kinds(pids: Iterator[int]) -> dict[str, list[int]]:
    """The processes by name; those in containers are one kind, however many there are."""
    found: dict[str, list[int]] = {}
    own = os.readlink("/proc/self/ns/pid")
    for pid in pids:
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("wharfd: ").partition(" ")[0]
            if os.readlink(f"/proc/{pid}/ns/pid") != own:
                name = "(container)"
            if name not in _LEFT_ALONE:
                found.setdefault(name, []).append(pid)
    return found


def stall(pid: int, seconds: float) -> None:
    """Stop *pid* for *seconds*; one that ends meanwhile (SIGKILL does) is left alone."""
    if _tells(pid):
        with held(pid):
            time.sleep(seconds)
        return
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
            time.sleep(seconds)
            signal.pidfd_send_signal(handle, signal.SIGCONT)
        finally:
            os.close(handle)


def _tells(pid: int) -> bool:
    """Whether a stop would have effects of its own, as no wait for a processor has.

    ``docker run`` passes SIGCONT on to its container, which is then one that a user has signalled;
    ``script`` stops when its child does, and nobody continues it.
    """
    try:
        name, parent = (
            Path(f"/proc/{each}/comm").read_text().strip()
            for each in (pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        )
    except OSError:  # it has ended
        return False
    return name == "docker" or parent == "script"


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    """Stop all threads of *pid* without a signal, so that neither it nor its parent knows."""
    stopped: set[int] = set()
    while new := _threads(pid) - stopped:
        for thread in new:
            with contextlib.suppress(OSError):  # it has ended
                _ptrace(_PTRACE_SEIZE, thread)
                _ptrace(_PTRACE_INTERRUPT, thread)
        stopped |= new
    try:
        yield
    finally:
        # Of a killed process the first thread is reported last.
        for thread in sorted(stopped, key=pid.__eq__):
            with contextlib.suppress(OSError):
                _let_go(thread)


def _threads(pid: int) -> set[int]:
    try:
        return {int(name) for name in os.listdir(f"/proc/{pid}/task")}
    except OSError:  # it has ended
        return set()


def _let_go(thread: int) -> None:
    _, status = os.waitpid(thread, _WALL)
    if os.WIFSTOPPED(status):
        # Above the signal stands which event it is, if any; one that stopped for a signal gets that.
        _ptrace(_PTRACE_DETACH, thread, 0 if status >> 16 else os.WSTOPSIG(status))


def _ptrace(request: int, thread: int, data: int = 0) -> None:
    if _libc.ptrace(request, thread, None, data) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def reap(child: int) -> int | None:
    """The exit code of *child* once it has ended; orphans that came here are reaped with it."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                return os.waitstatus_to_exitcode(ended[1])
    except ChildProcessError:
        return 1
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mean", type=float, default=0.3, help="seconds that a stall takes on average")
    parser.add_argument("--longest", type=float, default=3, help="seconds that one takes at most")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two on average")
    parser.add_argument("--log", type=argparse.FileType("w"), help="where to write what stood still when")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the tests, as in `pytest -x tests/e2e`")
    options = parser.parse_args()
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    tests = os.posix_spawnp(options.command[0], options.command, os.environ)
    while (code := reap(tests)) is None:
        time.sleep(min(random.expovariate(1 / options.pause), options.longest))
        if found := kinds(descendants(os.getpid())):
            name = random.choice(sorted(found))
            seconds = min(random.expovariate(1 / options.mean), options.longest)
            pid = random.choice(found[name])
            if options.log:
                print(f"{time.strftime('%T')} {name} {pid} {seconds:.2f}", file=options.log, flush=True)
            stall(pid, seconds)
    return code


if __name__ == "__main__":
    sys.exit(main())
