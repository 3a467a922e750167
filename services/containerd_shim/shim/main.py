"""The shim's process, from the fork to the end of its loop."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from pathlib import Path

import setproctitle

from services.containerd_shim.logdrivers.files import compress
from services.containerd_shim.logdrivers.sink import open_sink
from services.containerd_shim.loop import Loop, ignore_signals, watch_children
from services.containerd_shim.runtime import syscall
from services.containerd_shim.shim.server import Server
from services.containerd_shim.shim.task import Task
from services.protocol import task_pb2 as pb

#: Killed last when memory runs out: the container's processes first.
OOM_SCORE = "-999"


def run(request: pb.StartShimRequest, directory: Path, listener_fd: int) -> None:
    """Be the shim until its task is deleted. In a forked child that has closed all other fds."""
    _become_daemon(request.id, directory)
    loop = Loop()
    listener = socket.socket(fileno=listener_fd)
    server = Server(loop, listener)
    log = request.log
    sink = open_sink(log.driver, log.path, log.options, log.attributes, _compress_apart)
    task = Task(loop, request, directory, sink, lambda: server.finish(loop.stop))
    server.task = task
    watch_children(loop, task.child_exited)
    loop.run()


def _become_daemon(container_id: str, directory: Path) -> None:
    os.setsid()
    os.chdir("/")
    syscall.prctl(syscall.PR_SET_CHILD_SUBREAPER, 1)
    ignore_signals(signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _redirect(directory)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(OOM_SCORE)
    except OSError as error:
        print(f"oom_score_adj is left as it is: {error}", file=sys.stderr)
    setproctitle.setproctitle(f"wharfd-shim {container_id}")


def _redirect(directory: Path) -> None:
    """Input and output to nowhere, complaints to a file that goes with the shim."""
    null = os.open("/dev/null", os.O_RDWR)
    errors = os.open(directory / "shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(errors)


def _compress_apart(path: Path) -> None:
    """In a child, at low priority: the container's output does not wait for it."""
    if os.fork() == 0:
        try:
            os.nice(10)
            compress(path)
        finally:
            os._exit(0)
