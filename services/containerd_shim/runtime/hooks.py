"""Lifecycle hooks (OCI runtime specification, "POSIX-platform Hooks").

================  ==========================================  ======================
hook              when                                        namespaces
================  ==========================================  ======================
prestart          after create's namespaces, before pivot     runtime's (deprecated)
createRuntime     the same, after prestart                    runtime's
createContainer   before pivot_root                           container's
startContainer    by start, before the program                container's
poststart         after the program has started               runtime's
poststop          after the container is deleted              runtime's
================  ==========================================  ======================
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence

import msgspec

from services.containerd_shim.runtime import syscall
from services.containerd_shim.runtime.failures import StartError
from services.protocol import oci

_MAX_OUTPUT = 64 << 10


def run(kind: str, hooks: Sequence[oci.Hook], state: oci.State) -> None:
    """Run *hooks* in order with the state on their stdin; raises StartError at the first failure."""
    for number, hook in enumerate(hooks):
        try:
            _run_one(hook, msgspec.json.encode(state))
        except StartError as error:
            raise StartError(f"error running {kind} hook #{number}: {error}") from error


def run_all(hooks: Sequence[oci.Hook], state: oci.State) -> list[str]:
    """Run every hook, also after failures; the errors' texts (poststart, poststop)."""
    errors = []
    for hook in hooks:
        try:
            _run_one(hook, msgspec.json.encode(state))
        except StartError as error:
            errors.append(str(error))
    return errors


def _run_one(hook: oci.Hook, state: bytes) -> None:
    if not hook.path.startswith("/"):
        raise StartError(f"hook path {hook.path!r} is not absolute")
    stdin = os.memfd_create("hook-state")
    read, write = os.pipe()
    try:
        os.write(stdin, state)
        os.lseek(stdin, 0, os.SEEK_SET)
        pid = os.fork()
        if pid == 0:
            _child(hook, stdin, write)
        os.close(write)
        write = -1
        status, output = _wait(pid, read, hook.timeout)
    finally:
        for fd in (stdin, read, write):
            if fd >= 0:
                os.close(fd)
    if status is None:
        raise StartError(f"hook {hook.path} ran past its timeout of {hook.timeout} seconds")
    if status:
        text = output.decode("utf-8", "replace").strip()
        raise StartError(f"hook {hook.path} failed: exit status {status}, output: {text}")


def _child(hook: oci.Hook, stdin: int, output: int) -> None:
    try:
        os.setsid()
        os.dup2(stdin, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        syscall.close_range(3, flags=syscall.CLOSE_RANGE_CLOEXEC)
        for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        environment = dict(entry.split("=", 1) for entry in hook.env if "=" in entry)
        os.execve(hook.path, hook.args or [hook.path], environment)
    except OSError as error:
        os.write(2, str(error).encode())
    finally:
        os._exit(127)


def _wait(pid: int, output: int, timeout: int | None) -> tuple[int | None, bytes]:
    """(exit status or None when timed out, the first part of its output); the hook is gone after."""
    deadline = None if not timeout else time.monotonic() + timeout
    pidfd = os.pidfd_open(pid)
    collected = b""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(output, select.POLLIN)
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            events = dict(poller.poll(left))
            if not events:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.waitpid(pid, 0)
                return None, collected
            if events.get(output):
                data = os.read(output, 4096)
                collected = (collected + data)[:_MAX_OUTPUT]
                if not data:
                    poller.unregister(output)
            elif pidfd in events:
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), collected
    finally:
        os.close(pidfd)
