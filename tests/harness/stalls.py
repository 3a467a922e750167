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
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
            time.sleep(seconds)
            signal.pidfd_send_signal(handle, signal.SIGCONT)
        finally:
            os.close(handle)


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
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
