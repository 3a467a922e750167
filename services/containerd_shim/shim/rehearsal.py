"""A shim's life, played in the zygote before the first fork.

The interpreter rewrites code as it runs it for the first times, and fills caches. Done here, the
result is shared by all shims; done in each shim, it makes 0.4 MB of each its own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from services.containerd_shim.logdrivers.base import STDERR, STDOUT
from services.containerd_shim.logdrivers.sink import open_sink
from services.containerd_shim.loop import Loop
from services.containerd_shim.runtime import cgroups, planning
from services.containerd_shim.runtime.container import Container, Started, Stdio
from services.containerd_shim.shim.maker import load_spec
from services.containerd_shim.shim.server import Server
from services.containerd_shim.shim.task import Task
from services.protocol import fdpass, oci
from services.protocol import task_pb2 as pb
from services.protocol.shim import Subscribe, TaskCall

#: As often as it takes until the interpreter leaves the code alone.
ROUNDS = 10
_ID = "rehearsal"

#: Docker's default set, for which the default seccomp filter is compiled ahead.
DEFAULT_CAPABILITIES = frozenset(
    {
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    }
)


def rehearse(directory: str) -> None:
    """Play it in *directory*, which is made and removed here."""
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory, 0o700)
    try:
        with open(directory + "/config.json", "wb") as file:
            file.write(msgspec.json.encode(_document()))
        for _ in range(ROUNDS):
            _play(directory)
            _plan(Path(directory))
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
        task.init.exited(0, lambda: _drained(task))
        server.finish(loop.stop)
    loop.abandon()


def _drained(task: Task) -> None:
    """The exit as the shim has it, but for its record, which would wait for the disk."""
    task.end_log()
    task.events.publish(exit=pb.TaskExit(pid=task.init.pid, exit_status=task.init.exit_status))
    task.init.stopped()


def _plan(bundle: Path) -> None:
    """What precedes the making of a container, which makes nothing."""
    container = Container(_ID, bundle, load_spec(bundle))
    plan = planning.init_plan(
        container, cgroups.manager(f"/wharfd/{_ID}", _ID), Stdio(0, 1, 2), [], pb.UserRef(), None
    )
    plan.namespaces.close()


def _document() -> oci.Spec:
    """A container as most are."""
    names = sorted(DEFAULT_CAPABILITIES)
    options = ["nosuid", "noexec", "nodev"]
    return oci.Spec(
        process=oci.Process(
            args=["true"],
            env=["PATH=/bin"],
            capabilities=oci.Capabilities(bounding=names, effective=names, permitted=names),
        ),
        root=oci.Root(path="rootfs"),
        hostname=_ID,
        mounts=[
            oci.Mount(destination="/proc", type="proc", source="proc", options=options),
            oci.Mount(destination="/dev", type="tmpfs", source="tmpfs", options=["nosuid", "mode=755"]),
            oci.Mount(
                destination="/etc/hosts", type="bind", source="/etc/hosts", options=["rbind", "rprivate"]
            ),
        ],
        linux=oci.Linux(
            cgroups_path=f"/wharfd/{_ID}",
            namespaces=[oci.Namespace(type=kind) for kind in ("pid", "mount", "uts", "ipc", "network")],
            seccomp=oci.Seccomp(default_action="default"),
            resources=oci.Resources(devices=[oci.DeviceCgroup(allow=False)]),
            masked_paths=["/proc/kcore"],
            readonly_paths=["/proc/sys"],
        ),
    )


def _calls() -> list[tuple[str, pb.StateRequest | pb.ConnectRequest]]:
    return [("State", pb.StateRequest(id=_ID)), ("Connect", pb.ConnectRequest(id=_ID))]


def _start(_: Stdio) -> Started:
    return Started(os.getpid(), os.pidfd_open(os.getpid()), None)
