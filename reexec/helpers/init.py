"""``docker-init [-s] [-g] [-v] -- PROGRAM ARGUMENT...``: a container's init, as tini is one.

Starts the program in a process group of its own, passes every signal on to it, reaps what is
orphaned, and ends as the program ended (128 + n when signal n killed it).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass, field

from reexec.call import Call
from reexec.registry import register
from services.protocol.errors import InvalidParameter

_PR_SET_CHILD_SUBREAPER = 36
#: Raised by the kernel for what this process itself did: not for the child.
_OWN = {
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGSYS,
    signal.SIGTTIN,
    signal.SIGTTOU,
}
NOT_EXECUTABLE, NOT_FOUND = 126, 127


@dataclass
class Options:
    """tini's: ``subreaper`` (-s), signal the whole ``group`` (-g), ``verbose`` (-v)."""

    program: list[str] = field(default_factory=list)
    subreaper: bool = False
    group: bool = False
    verbose: bool = False


def parse(arguments: list[str]) -> Options:
    """Raises :class:`InvalidParameter` for what tini has and this does not."""
    options = Options()
    while arguments and arguments[0].startswith("-"):
        option, *arguments = arguments
        if option == "--":
            break
        for letter in option[1:]:
            if letter == "s":
                options.subreaper = True
            elif letter == "g":
                options.group = True
            elif letter == "v":
                options.verbose = True
            else:
                raise InvalidParameter(f"docker-init: unknown option -{letter}")
    options.program = arguments
    if not arguments:
        raise InvalidParameter("docker-init: no program was given")
    return options


@register("docker-init")
def main(call: Call) -> int:
    options = parse(call.argv[1:])
    if options.subreaper:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signals = signal.valid_signals() - _OWN
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child == 0:
        _execute(options.program, before)
    if options.verbose:
        print(f"docker-init: started process {child}", file=sys.stderr)
    return _mind(child, signals, -child if options.group else child)


def _execute(program: list[str], mask: set[int | signal.Signals]) -> None:
    """In the child: never returns."""
    try:
        os.setpgid(0, 0)
        if os.isatty(0):
            os.tcsetpgrp(0, os.getpgrp())  # SIGTTOU is blocked here
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execvp(program[0], program)
    except FileNotFoundError as error:
        print(f"docker-init: exec {program[0]} failed: {error.strerror}", file=sys.stderr)
        os._exit(NOT_FOUND)
    except OSError as error:
        print(f"docker-init: exec {program[0]} failed: {error.strerror}", file=sys.stderr)
        os._exit(NOT_EXECUTABLE)


def _mind(child: int, signals: set[signal.Signals], target: int) -> int:
    """Pass signals on and reap until *child* has ended; returns its exit status."""
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            try:
                os.kill(target, number)
            except ProcessLookupError:
                pass
            continue
        status = _reap(child)
        if status is not None:
            return status


def _reap(child: int) -> int | None:
    """Every process that has ended; the exit status of *child* if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = 128 - code if code < 0 else code
