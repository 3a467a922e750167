"""Forking a child into a pid namespace, and waiting for what becomes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable

from services.containerd_shim import plainfork
from services.containerd_shim.runtime import init, sync
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.failures import StartError
from services.containerd_shim.runtime.namespaces import NamespacePlan


def fork(
    theirs: socket.socket,
    keep: list[int],
    run: Callable[[socket.socket], None],
    namespaces: NamespacePlan,
    *,
    is_exec: bool,
) -> int:
    """Fork a child that runs *run*, as init of a new pid namespace or inside the one to join.

    unshare(2) and setns(2) of a pid namespace change it for children only, so this process goes in,
    forks, and goes back. With a new user namespace the child makes the pid namespace itself. Closes
    *theirs* here. Returns the pid as this process sees it.
    """
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter_pid_namespace(namespaces)
        try:
            pid = plainfork.fork()
            if pid == 0:
                init.child(theirs, keep, run, is_exec=is_exec)
        finally:
            sc.setns(home, sc.CLONE_NEWPID)
    finally:
        os.close(home)
        theirs.close()
    return pid


def _enter_pid_namespace(namespaces: NamespacePlan) -> None:
    for flag, fd in namespaces.joins:
        if flag == sc.CLONE_NEWPID:
            sc.setns(fd, sc.CLONE_NEWPID)
    if namespaces.new & sc.CLONE_NEWPID and not namespaces.kinds & sc.CLONE_NEWUSER:
        sc.unshare(sc.CLONE_NEWPID)


def begin(sock: socket.socket, network: bytes) -> None:
    """Order the waiting child to execute its program; returns when it has."""
    try:
        sync.send(sock, sync.Begin(network))
    except (BrokenPipeError, ConnectionResetError):
        raise StartError("cannot start a container that has stopped") from None
    await_exec(sock, expects_console=False)


def await_exec(sock: socket.socket, *, expects_console: bool) -> int | None:
    """Wait for the end of file that execve causes; the master of the terminal where one is due."""
    console: int | None = None
    try:
        while True:
            message, fd = sync.receive_any(sock)
            if not (expects_console and isinstance(message, sync.Console) and console is None):
                raise StartError(f"runtime sync: unexpected {type(message).__name__}")
            console = fd
    except (sync.PeerGone, ConnectionResetError):
        return console
    except TimeoutError:
        if console is not None:
            os.close(console)
        raise StartError("timed out waiting for the process to be executed") from None
    except BaseException:
        if console is not None:
            os.close(console)
        raise


def start_time(pid: int) -> int:
    """When *pid* started, in clock ticks since boot; 0 when there is no such process, or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def reap(pid: int) -> None:
    """Wait for a child that is ending; one that is not ours is somebody else's to reap."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def kill_and_reap(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    reap(pid)
