"""Making the container in a child of the shim that ends when it is made.

A shim shares its memory with the zygote until it writes to it, and running Python writes to it
(reference counts). What making a container touches is touched here and given back; the shim, which
stays for the container's life, only receives the result::

    shim                              maker
      | -- fork ------------------------> |  cgroups, namespaces, root: Container.create
      | <-- Made + descriptors ---------- |
      | <-- exit ------------------------ |

Init is the maker's child and becomes the shim's, who is a child subreaper.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import msgspec

from services.containerd_shim.plainfork import fork
from services.containerd_shim.runtime.container import Container, ContainerState, Started, Stdio
from services.protocol import fdpass, oci
from services.protocol import task_pb2 as pb
from services.protocol.errors import Failure, Unavailable, from_failure, to_failure


class Made(msgspec.Struct, frozen=True):
    """``fds`` names the descriptors that come along: pidfd, sync, and console and oom where there.

    ``poststart``: the container has hooks to run once its program runs.
    """

    state: ContainerState | None = None
    fds: list[str] = []
    poststart: bool = False
    failure: Failure | None = None


class Making:
    """A container that waits for its start. The descriptors belong to whoever has this."""

    def __init__(self, made: Made, fds: list[int]) -> None:
        assert made.state is not None
        named = dict(zip(made.fds, fds, strict=True))
        self.state = made.state
        self.poststart = made.poststart
        self.started = Started(made.state.pid, named["pidfd"], named.get("console"))
        self.oom_fd = named.get("oom", -1)
        self.sync = socket.socket(fileno=named["sync"])


def load_spec(bundle: Path) -> oci.Spec:
    """The bundle's ``config.json``, with the shim's own oom_score_adj kept from being inherited."""
    spec = msgspec.json.decode((bundle / "config.json").read_bytes(), type=oci.Spec)
    if spec.process is not None and spec.process.oom_score_adj is None:
        spec.process.oom_score_adj = 0
    return spec


def make(container_id: str, request: pb.CreateTaskRequest, stdio: Stdio) -> Making:
    """Create the container in a child; raises what :meth:`Container.create` raises there."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = fork()
    if pid == 0:
        _be_maker(container_id, request, stdio, theirs)
    theirs.close()
    with ours:
        try:
            made, fds = fdpass.receive(ours, Made)
        except Unavailable:
            raise Unavailable("the process that makes the container was killed") from None
        finally:
            os.waitpid(pid, 0)
    if made.failure is not None:
        raise from_failure(made.failure)
    return Making(made, fds)


def _be_maker(container_id: str, request: pb.CreateTaskRequest, stdio: Stdio, answer: socket.socket) -> None:
    """In the child: never returns."""
    try:
        signal.set_wakeup_fd(-1)
        try:
            made, fds = _create(container_id, request, stdio)
        except BaseException as error:
            made, fds = Made(failure=to_failure(error)), []
        fdpass.send(answer, made, fds)
    finally:
        os._exit(0)


def _create(container_id: str, request: pb.CreateTaskRequest, stdio: Stdio) -> tuple[Made, list[int]]:
    bundle = Path(request.bundle)
    container = Container(container_id, bundle, load_spec(bundle))
    size = (request.console_height, request.console_width)
    started = container.create(
        stdio, rootfs=list(request.rootfs), user=request.user, console_size=size if all(size) else None
    )
    named = {"pidfd": started.pidfd, "sync": container.take_sync().detach()}
    if started.console is not None:
        named["console"] = started.console
    oom = container.oom_event_fd()
    if oom is not None:
        named["oom"] = oom
    hooks = container.spec.hooks
    made = Made(container.save(), list(named), poststart=hooks is not None and bool(hooks.poststart))
    return made, list(named.values())
