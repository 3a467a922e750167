"""A shim's life, played in the zygote before the first fork.

The interpreter rewrites code as it runs it for the first times, and fills caches. Done here, the
result is shared by all shims; done in each shim, it makes 0.4 MB of each its own.
"""

from __future__ import annotations

import os
import shutil

from services.containerd_shim.logdrivers.base import STDERR, STDOUT
from services.containerd_shim.logdrivers.sink import open_sink
from services.containerd_shim.loop import Loop
from services.containerd_shim.runtime.container import Started, Stdio
from services.containerd_shim.shim.server import Server
from services.containerd_shim.shim.task import Task
from services.protocol import fdpass
from services.protocol import task_pb2 as pb
from services.protocol.shim import Subscribe, TaskCall

#: As often as it takes until the interpreter leaves the code alone.
ROUNDS = 10
_ID = "rehearsal"


def rehearse(directory: str) -> None:
    """Play it in *directory*, which is made and removed here."""
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory, 0o700)
    try:
        for _ in range(ROUNDS):
            _play(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _play(directory: str) -> None:
    log = pb.LogConfig(driver="json-file", path=directory + "/log")
    request = pb.StartShimRequest.FromString(pb.StartShimRequest(id=_ID, log=log).SerializeToString())
    loop = Loop()
    listener = fdpass.listen(directory + "/shim.sock")
    with fdpass.connect(directory + "/shim.sock") as peer:
        server = Server(loop, listener)
        sink = open_sink(log.driver, log.path, request.log.options, request.log.attributes)
        server.task = task = Task(loop, request, directory, sink, lambda: None)
        fdpass.send(peer, Subscribe())
        for seq, (method, message) in enumerate(_calls()):
            fdpass.send(peer, TaskCall(seq, method, message.SerializeToString()))
        task.init.launch(_start)
        task.init.running()
        task.events.publish(start=pb.TaskStart(pid=os.getpid()))
        loop.later(0.001, loop.stop)
        loop.run()
        if sink is not None:
            sink.feed(STDOUT, b"a line\n")
            sink.feed(STDERR, b"another\n")
        task.init.exited(0, task.init.stopped)
        if sink is not None:
            sink.close()
        server.finish(loop.stop)
    loop.abandon()


def _calls() -> list[tuple[str, pb.StateRequest | pb.ConnectRequest]]:
    return [("State", pb.StateRequest(id=_ID)), ("Connect", pb.ConnectRequest(id=_ID))]


def _start(_: Stdio) -> Started:
    return Started(os.getpid(), os.pidfd_open(os.getpid()), None)
