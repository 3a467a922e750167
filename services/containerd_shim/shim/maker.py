"""Making the container in a child of the shim that ends when it is made.

A shim shares its memory with the zygote until it writes to it, and running Python writes to it
(reference counts). What making a container touches is touched here and given back; the shim, which
stays for the container's life, only receives the result. It is forked soon after the shim, while the
engine is still preparing, so that nobody waits for the fork::

    shim                              maker
      | -- fork ------------------------> |  waits
      | -- Order + stdio ---------------> |  cgroups, namespaces, root: Container.create
      | <-- Made + descriptors ---------- |
      | <-- exit ------------------------ |  reaped by the shim's loop, as any child

Init is the maker's child and becomes the shim's, who is a child subreaper. A maker whose shim is gone
reads the end of the connection, and ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import msgspec

from services.containerd_shim.plainfork import fork
from services.containerd_shim.runtime.container import Container, ContainerState, Started, Stdio
from services.containerd_shim.runtime.syscall import close_range
from services.protocol import fdpass, oci
from services.protocol import task_pb2 as pb
from services.protocol.errors import Failure, Unavailable, from_failure, to_failure


class Order(msgspec.Struct, frozen=True):
    """``request`` is a serialised CreateTaskRequest; the program's three streams come along."""

    id: str
    request: bytes


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


class Maker:
    """A child that makes one container, or none."""

    def __init__(self, claim: int = -1) -> None:
        """*claim* of the directory is held until its end, too: nobody clears up before."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = fork()
        if self._pid == 0:
            self._ours.close()
            _be_maker(theirs, claim)
        theirs.close()

    def make(self, container_id: str, request: pb.CreateTaskRequest, stdio: Stdio) -> Making:
        """Raises what :meth:`Container.create` raises there. To be called once."""
        order = Order(container_id, request.SerializeToString())
        with self._ours:
            try:
                fdpass.send(self._ours, order, [stdio.stdin, stdio.stdout, stdio.stderr])
                made, fds = fdpass.receive(self._ours, Made)
            except (Unavailable, BrokenPipeError, ConnectionResetError):
                raise Unavailable("the process that makes the container was killed") from None
        if made.failure is not None:
            raise from_failure(made.failure)
        return Making(made, fds)

    def dismiss(self) -> None:
        """There will be no container."""
        self._ours.close()
        with contextlib.suppress(ChildProcessError):  # the loop was quicker
            os.waitpid(self._pid, 0)


def _be_maker(answer: socket.socket, claim: int) -> None:
    """In the child: never returns."""
    try:
        signal.set_wakeup_fd(-1)
        # Of the shim's descriptors it keeps no other: a client must see the end when the shim lets it go.
        low = 3
        for fd in sorted((max(claim, 2), answer.fileno())):
            if fd > low:
                close_range(low, fd - 1)
            low = fd + 1
        close_range(low)
        try:
            order, stdio = fdpass.receive(answer, Order)
        except Unavailable:
            return
        try:
            request = pb.CreateTaskRequest.FromString(order.request)
            made, fds = _create(order.id, request, Stdio(*stdio))
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
