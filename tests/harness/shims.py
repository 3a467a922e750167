"""A task service of a test's own, and a gRPC client of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import msgspec

from services.containerd_shim.state import is_alive
from services.protocol import fdpass, grpc_errors
from services.protocol import task_pb2 as pb
from services.protocol import task_pb2_grpc as rpc
from services.protocol.errors import WharfError, from_failure
from services.protocol.fdpass import HandoverAck, HandoverEnvelope
from services.protocol.paths import ExecRoot
from services.protocol.shim import Stream
from tests.harness.readiness import remove_tree
from tests.harness.rootfs import make_rootfs

CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
]
REPOSITORY = Path(__file__).resolve().parents[2]


def wait_for(check: Callable[[], Any], timeout: float = 90.0) -> Any:
    """The first true value of *check*."""
    deadline = time.monotonic() + timeout
    while not (value := check()):
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(0.005)
    return value


def spec(
    container_id: str, args: list[str], *, terminal: bool = False, memory: int = 0, cgroup: str = ""
) -> dict[str, Any]:
    """A ``config.json``: private namespaces, the mounts a shell needs, the default seccomp profile."""
    nosuid = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": terminal,
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        },
        "root": {"path": "rootfs"},
        "hostname": "tested",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": nosuid},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
        ],
        "linux": {
            "cgroupsPath": f"/wharfd/{cgroup or container_id}",
            "namespaces": [{"type": each} for each in ("pid", "mount", "uts", "ipc", "network")],
            "seccomp": {"defaultAction": "default"},
            "resources": {"memory": {"limit": memory, "swap": memory}} if memory else {},
        },
    }


class Service:
    """containerd-shim on an exec root below *directory*."""

    def __init__(self, directory: Path) -> None:
        self.exec_root = ExecRoot(directory / "exec")
        self.directory = directory
        self.rootfs = make_rootfs(directory / "rootfs")
        self.process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None
        self.tasks: Any = None
        self.events: Any = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.containerd_shim.main", "--exec-root", str(self.exec_root.root)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        self._channel = grpc.insecure_channel(f"unix:{self.exec_root.shim_service}")
        grpc.channel_ready_future(self._channel).result(90)
        self.tasks = rpc.TasksStub(self._channel)  # type: ignore[no-untyped-call]
        self.events = rpc.EventsStub(self._channel)  # type: ignore[no-untyped-call]

    def kill(self) -> None:
        """``kill -9`` of the service alone."""
        assert self.process is not None and self._channel is not None
        self._channel.close()
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, as supervisord does it."""
        assert self.process is not None and self._channel is not None
        self._channel.close()
        self.process.terminate()
        assert self.process.wait(60) == 0

    def close(self) -> None:
        """End everything, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(grpc.RpcError):
                for task in self.tasks.List(pb.ListRequest(), timeout=30).tasks:
                    self.tasks.Delete(pb.DeleteRequest(id=task.id, kill=True), timeout=60)
            self.stop()
        for pid in self.shim_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        remove_tree(self.directory)

    def call(self, method: str, request: Any, timeout: float = 90) -> Any:
        """A method of Tasks; raises the error that the service raised."""
        try:
            return getattr(self.tasks, method)(request, timeout=timeout)
        except grpc.RpcError as error:
            raise grpc_errors.from_rpc_error(error) from None  # type: ignore[arg-type]

    def shim_pids(self) -> list[int]:
        """Shims of this exec root that are running."""
        found = []
        for path in self.exec_root.shims.glob("*/state.json"):
            with contextlib.suppress(FileNotFoundError):  # its task has just been deleted
                record = json.loads(path.read_bytes())
                if is_alive(record["shim_pid"], record["shim_start"]):
                    found.append(record["shim_pid"])
        return found

    def zygote_pid(self) -> int:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in map(int, children):
            if b"zygote" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        raise LookupError("there is no zygote")

    # One container, in the order of the engine.

    def log_path(self, container_id: str) -> Path:
        return self.directory / f"{container_id}.log"

    def prepare(self, container_id: str, *, driver: str = "json-file", **request: Any) -> str:
        """StartShim; the path of the shim's socket."""
        options = request.pop("options", {})
        log = pb.LogConfig(driver=driver, path=str(self.log_path(container_id)), options=options)
        started = self.call("StartShim", pb.StartShimRequest(id=container_id, log=log, **request))
        return str(started.socket)

    def cgroup(self, container_id: str) -> str:
        """Its name below ``wharfd``, which tests that run at the same time do not have."""
        return f"{self.directory.name}-{container_id}"

    def create(self, container_id: str, *args: str, terminal: bool = False, memory: int = 0) -> int:
        bundle = self.directory / f"{container_id}.bundle"
        bundle.mkdir(exist_ok=True)
        (bundle / "rootfs").mkdir(exist_ok=True)
        cgroup = self.cgroup(container_id)
        document = spec(container_id, list(args), terminal=terminal, memory=memory, cgroup=cgroup)
        (bundle / "config.json").write_text(json.dumps(document))
        mount = pb.Mount(type="bind", source=str(self.rootfs), options=["rbind", "rw"])
        request = pb.CreateTaskRequest(id=container_id, bundle=str(bundle), rootfs=[mount])
        return int(self.call("Create", request).pid)

    def start_task(self, container_id: str) -> None:
        self.call("Start", pb.StartRequest(id=container_id))

    def run(self, container_id: str, *args: str, **request: Any) -> str:
        """All of it; the path of the shim's socket."""
        terminal, memory = bool(request.get("terminal")), request.pop("memory", 0)
        path = self.prepare(container_id, **request)
        self.create(container_id, *args, terminal=terminal, memory=memory)
        self.start_task(container_id)
        return path

    def gate(self, container_id: str) -> str:
        """What a script says to wait for :meth:`open_gate`."""
        return f"until test -e /go-{container_id}; do sleep 0.02; done"

    def open_gate(self, container_id: str) -> None:
        (self.rootfs / f"go-{container_id}").touch()

    def shell(self, container_id: str, script: str, **request: Any) -> str:
        return self.run(container_id, "/bin/sh", "-c", script, **request)

    def wait(self, container_id: str, exec_id: str = "", timeout: float = 90) -> int:
        request = pb.WaitRequest(id=container_id, exec_id=exec_id)
        return int(self.call("Wait", request, timeout).exit_status)

    def delete(self, container_id: str) -> None:
        self.call("Delete", pb.DeleteRequest(id=container_id, kill=True))

    def add_exec(
        self, container_id: str, exec_id: str, *args: str, terminal: bool = False, **request: Any
    ) -> None:
        document = {"args": list(args), "env": ["PATH=/bin"], "cwd": "/", "terminal": terminal}
        self.call(
            "Exec",
            pb.ExecProcessRequest(
                id=container_id,
                exec_id=exec_id,
                process=json.dumps(document).encode(),
                terminal=terminal,
                **request,
            ),
        )

    @contextlib.contextmanager
    def subscribed(self, since: int = 0) -> Iterator[Iterator[pb.Envelope]]:
        stream = self.events.Subscribe(pb.SubscribeRequest(since=since), timeout=90)
        try:
            yield stream
        finally:
            stream.cancel()


def hand_over(path: str | Path, stream: Stream | msgspec.Struct, **envelope: Any) -> socket.socket:
    """The client's end of a connection that the process at *path* serves; raises its refusal."""
    ours, theirs = socket.socketpair()
    with fdpass.connect(path) as connection:
        message = HandoverEnvelope(msgspec.msgpack.encode(stream), **envelope)
        fdpass.send(connection, message, [theirs.fileno()])
        theirs.close()
        connection.settimeout(60)
        ack, _ = fdpass.receive(connection, HandoverAck)
    if ack.failure is not None:
        ours.close()
        raise from_failure(ack.failure)
    ours.settimeout(60)
    return ours


def read_all(connection: socket.socket) -> bytes:
    """To the end of file; the connection is closed."""
    with connection:
        out = bytearray()
        while data := connection.recv(1 << 20):
            out += data
        return bytes(out)


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    out = b""
    while wanted not in out:
        data = connection.recv(65536)
        if not data:
            raise EOFError(f"{wanted!r} did not come, but {out!r}")
        out += data
    return out


def frames(data: bytes) -> dict[int, bytes]:
    """Multiplexed output by stream."""
    found: dict[int, bytearray] = {}
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position + 4 : position + 8])
        found.setdefault(data[position], bytearray()).extend(data[position + 8 : position + 8 + size])
        position += 8 + size
    return {stream: bytes(text) for stream, text in found.items()}


__all__ = ["Service", "WharfError", "frames", "hand_over", "read_all", "read_until", "spec", "wait_for"]
