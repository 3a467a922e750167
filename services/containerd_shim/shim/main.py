"""The shim's process, from the fork to the end of its loop."""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable

import setproctitle

from services.containerd_shim import state
from services.containerd_shim.logdrivers.files import compress
from services.containerd_shim.logdrivers.sink import open_sink
from services.containerd_shim.loop import Loop, ignore_signals, watch_children
from services.containerd_shim.runtime import syscall
from services.containerd_shim.shim.server import Server
from services.containerd_shim.shim.task import Task
from services.protocol import task_pb2 as pb

#: Killed last when memory runs out: the container's processes first.
OOM_SCORE = b"-999"

#: Seconds until the maker is forked: when the service has been answered, and before it asks for more.
_MAKER_DELAY = 0.001

_SURVIVED = tuple(map(int, (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)))
_prctl = ctypes.CDLL(None).prctl
_prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def run(request: pb.StartShimRequest, directory: str, listener_fd: int) -> None:
    """Be the shim until its task is deleted. In a forked child that has closed all other fds.

    What runs here is written for few touched pages: each costs every container 4 KB.
    """
    claim = state.claim(directory)
    if claim < 0:  # the zygote before this one forked a shim, and died before it could say so
        _redirect(directory)
        print(f"another process has {directory}: there is a shim, or one that ends", file=sys.stderr)
        return
    _become_daemon(request.id, directory)
    loop = Loop()
    listener = socket.socket(fileno=listener_fd)
    server = Server(loop, listener)
    log = request.log
    sink = open_sink(log.driver, log.path, log.options, log.attributes, _compress_apart)
    task = Task(loop, request, directory, sink, lambda: server.finish(loop.stop), claim)
    server.task = task
    watch_children(loop, task.child_exited)
    loop.later(_MAKER_DELAY, task.fork_maker)
    gc.enable()  # what came from the zygote is frozen; a shim lives long enough to have garbage
    loop.run()


def _become_daemon(container_id: str, directory: str) -> None:
    os.setsid()
    os.chdir("/")
    _prctl(syscall.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ignore_signals(*_SURVIVED)
    _redirect(directory)
    _set_oom_score()
    setproctitle.setproctitle(f"wharfd-shim {container_id}")


def _set_oom_score() -> None:
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    try:
        os.write(fd, OOM_SCORE)
    except OSError:  # without CAP_SYS_RESOURCE it stays what it is
        pass
    finally:
        os.close(fd)


def _redirect(directory: str) -> None:
    """Input and output to nowhere, complaints to a file that goes with the shim."""
    null = os.open("/dev/null", os.O_RDWR)
    errors = os.open(directory + "/shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(errors)


def _compress_apart(path: str) -> Callable[[], None]:
    """In a child, at low priority: the container's output waits for it when the next file is full."""
    child = os.fork()
    if child == 0:
        try:
            syscall.close_range(3)  # the shim's end is seen although this goes on
            os.nice(10)
            compress(path)
        finally:
            os._exit(0)
    pidfd = os.pidfd_open(child)  # the loop reaps it, and its pid may be another's then

    def wait() -> None:
        poll = select.poll()  # select(2) knows no descriptors above 1023
        poll.register(pidfd, select.POLLIN)
        poll.poll()
        os.close(pidfd)

    return wait
