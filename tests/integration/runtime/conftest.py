"""Real containers from a busybox root, made by the library in this very process."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.containerd_shim.runtime.container import Container, Started, Stdio
from services.protocol import oci
from services.protocol import task_pb2 as pb
from tests.harness import SESSION

PARENT = f"wharfd-runtime-{SESSION}"
_NAMES = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE
"""
CAPABILITIES = [f"CAP_{name}" for name in _NAMES.split()]


@pytest.fixture(scope="session")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lower directory with busybox, users and groups."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed (Debian: busybox-static)")
    root = tmp_path_factory.mktemp("layer")
    root.chmod(0o755)
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "usr", "home/joe", "var/empty"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\njoe:x:1000:1001::/home/joe:/bin/sh\n")
    (root / "etc/group").write_text(
        "root:x:0:\nwheel:x:10:root\njoe:x:1001:\nextra:x:3000:joe\naudio:x:29:\n"
    )
    (root / "bin/noexec").write_text("x")
    (root / "bin/script").write_text("#!/nosuch/interpreter\n")
    (root / "bin/script").chmod(0o755)
    return root


@dataclass
class Result:
    code: int
    out: str


@dataclass
class Box:
    """One container under test; :meth:`run` is the whole life, the rest are its steps."""

    layer: Path
    bundle: Path
    id: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}")
    spec: oci.Spec = field(init=False)
    container: Container | None = None
    started: Started | None = None
    rootfs: list[pb.Mount] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spec = default_spec(f"/{PARENT}/{self.id}")
        for name in ("rootfs", "upper", "work"):
            (self.bundle / name).mkdir(mode=0o755)
        options = [
            f"lowerdir={self.layer}",
            f"upperdir={self.bundle / 'upper'}",
            f"workdir={self.bundle / 'work'}",
        ]
        self.rootfs = [pb.Mount(type="overlay", source="overlay", options=options)]

    @property
    def process(self) -> oci.Process:
        assert self.spec.process is not None
        return self.spec.process

    @property
    def linux(self) -> oci.Linux:
        assert self.spec.linux is not None
        return self.spec.linux

    def create(self, *args: str, user: str | None = None, groups: list[str] | None = None) -> Container:
        """Create with output to a file in the bundle."""
        self.process.args = list(args)
        self.container = Container(self.id, self.bundle, self.spec)
        reference = None
        if user is not None or groups is not None:
            reference = pb.UserRef(user=user or "", additional_groups=groups or [])
        with open("/dev/null", "rb") as null, open(self.bundle / "out", "ab") as out:
            stdio = Stdio(null.fileno(), out.fileno(), out.fileno())
            self.started = self.container.create(stdio, rootfs=self.rootfs, user=reference)
        return self.container

    def start(self, *args: str, user: str | None = None, network: pb.NetworkSetup | None = None) -> Container:
        container = self.create(*args, user=user)
        container.start(network)
        return container

    def wait(self) -> int:
        assert self.started is not None
        return os.waitstatus_to_exitcode(os.waitpid(self.started.pid, 0)[1])

    @property
    def output(self) -> str:
        return (self.bundle / "out").read_text()

    def run(self, *args: str, user: str | None = None, groups: list[str] | None = None) -> Result:
        container = self.create(*args, user=user, groups=groups)
        container.start(None)
        code = self.wait()
        self.close()
        return Result(code, self.output)

    def sh(self, script: str, user: str | None = None) -> Result:
        return self.run("sh", "-c", script, user=user)

    def exec(self, *args: str, user: str | None = None, process: oci.Process | None = None) -> Result:
        """Run one more program to its end."""
        assert self.container is not None
        process = process or oci.Process(args=list(args), env=["PATH=/bin"], cwd="/")
        read, write = os.pipe()
        try:
            started = self.container.exec(
                process,
                Stdio(write, write, write),
                user=pb.UserRef(user=user) if user is not None else None,
            )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        os.close(started.pidfd)
        with os.fdopen(read, "r") as file:
            out = file.read()
        return Result(os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1]), out)

    def close(self) -> None:
        if self.container is not None:
            self.container.destroy()
        if self.started is not None:
            os.close(self.started.pidfd)
            if self.started.console is not None:
                os.close(self.started.console)
            try:
                os.waitpid(self.started.pid, 0)
            except ChildProcessError:
                pass
        self.container = self.started = None


def default_spec(cgroups_path: str) -> oci.Spec:
    common = ["nosuid", "noexec", "nodev"]

    def mount(destination: str, kind: str, options: list[str]) -> oci.Mount:
        return oci.Mount(destination=destination, type=kind, source=kind, options=options)

    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    return oci.Spec(
        process=oci.Process(
            env=["PATH=/bin"],
            cwd="/",
            capabilities=oci.Capabilities(
                bounding=CAPABILITIES, effective=CAPABILITIES, permitted=CAPABILITIES
            ),
        ),
        root=oci.Root(path="rootfs"),
        hostname="box",
        mounts=[
            mount("/proc", "proc", common),
            mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", pts),
            mount("/sys", "sysfs", [*common, "ro"]),
            mount("/sys/fs/cgroup", "cgroup", [*common, "ro"]),
            mount("/dev/mqueue", "mqueue", common),
            mount("/dev/shm", "tmpfs", [*common, "mode=1777", "size=65536k"]),
        ],
        linux=oci.Linux(
            namespaces=[oci.Namespace(type=kind) for kind in ("mount", "pid", "network", "uts", "ipc")],
            cgroups_path=cgroups_path,
            seccomp=oci.Seccomp(default_action="default"),
            masked_paths=["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi"],
            readonly_paths=["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            resources=oci.Resources(devices=[oci.DeviceCgroup(allow=False)]),
        ),
    )


@pytest.fixture
def box(layer: Path, tmp_path: Path) -> Iterator[Box]:
    made = Box(layer, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session", autouse=True)
def no_cgroups_left() -> Iterator[None]:
    """Every container's cgroups are gone in the end; removes the parents."""
    yield
    for parent in Path("/sys/fs/cgroup").glob(f"*/{PARENT}"):
        assert not [child for child in parent.iterdir() if child.is_dir()], f"left in {parent}"
        parent.rmdir()
