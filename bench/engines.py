"""The two daemons, each on roots, socket and bridge of its own, under one interface."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from bench.client import Client
from bench.reference import Reference
from tests.harness.images import busybox_archive
from tests.harness.network import remove_bridge, remove_tables
from tests.harness.readiness import answers

REPOSITORY = Path(__file__).resolve().parents[1]
START_TIMEOUT = 60.0


class Daemon:
    """Life: (``start`` -> measures -> ``stop``)* -> ``close``."""

    name = ""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=f"wb-{self.name[0]}", dir="/tmp"))
        self.socket = self.root / "docker.sock"
        self.bridge = f"wb{self.root.name[-6:].lower()}"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def version(self) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def start(self) -> tuple[float, float]:
        """Seconds to the first answer of ``/_ping``, and of ``/version``, which needs the engine."""
        with (self.root / "log").open("ab") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen(
                self.command(), cwd=REPOSITORY, env=self.environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        return self._until_answered("/_ping", began), self._until_answered("/version", began)

    def _until_answered(self, url: str, began: float) -> float:
        while not answers(self.socket, url):
            assert self.process is not None
            if self.process.poll() is not None or time.perf_counter() - began > START_TIMEOUT:
                tail = (self.root / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} did not start:\n{tail}")
            time.sleep(0.002)
        return time.perf_counter() - began

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def load_image(self) -> None:
        Client(self.socket).load(busybox_archive())

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CLI_HINTS": "false"}
        command = ["docker", *arguments]
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )

    def close(self) -> None:
        try:
            if self.process is not None:
                Client(self.socket).remove_all()
                self.stop()
        finally:
            remove_bridge(self.bridge)
            remove_tables(self.bridge)
            _unmount_below(self.root)
            shutil.rmtree(self.root)

    def in_its_network(self) -> list[str]:
        """What to put before a command that is to run in the daemon's network."""
        return []

    # -- memory -------------------------------------------------------------------------------

    def shim_mark(self) -> str:
        """What the command line of a container's shim has in it, of this daemon only."""
        raise NotImplementedError

    def own_processes(self, containers: set[str]) -> set[int]:
        """The daemon's processes: its tree, and the shims of *containers*, which have left it."""
        parents: dict[int, int] = {}
        shims: set[int] = set()
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                stat = Path(entry.path, "stat").read_text()
                title = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            if self.shim_mark() in title and any(identity in title for identity in containers):
                shims.add(int(entry.name))
        assert self.process is not None
        tree, grown = {self.process.pid}, True
        while grown:
            more = {pid for pid, parent in parents.items() if parent in tree and parent not in shims} - tree
            grown = bool(more)
            tree |= more
        return {pid for pid in tree if parents.get(pid) not in shims} | shims

    def pss(self, containers: set[str]) -> float:
        """Proportional set size of the daemon's own processes, in MB."""
        return sum(map(_pss, self.own_processes(containers))) / 1024


def _pss(pid: int) -> int:
    """kB."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def _unmount_below(root: Path) -> None:
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1]
        if target.startswith(f"{root}/"):
            subprocess.run(["umount", "--lazy", target], capture_output=True)


class Wharfd(Daemon):
    name = "wharfd"

    @property
    def version(self) -> str:
        return Client(self.socket).get("/version")["Version"]

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "services.engine.launch.main",
            "--data-root", f"{self.root}/d", "--exec-root", f"{self.root}/x",
            "-H", f"unix://{self.socket}", "--bridge", self.bridge,
        ]  # fmt: skip

    def shim_mark(self) -> str:
        return "wharfd-shim"


class Dockerd(Daemon):
    name = "dockerd"

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        self._reference = reference

    @property
    def version(self) -> str:
        return self._reference.version

    def environment(self) -> Mapping[str, str]:
        return self._reference.environment

    def command(self) -> list[str]:
        """In a network namespace of its own: its rules and bridge stay out of the host's, and go with it.

        dockerd wants a named bridge to be there.
        """
        prepare = (
            f"ip link set lo up && ip link add {self.bridge} type bridge && "
            f'ip addr add 10.213.7.1/24 dev {self.bridge} && ip link set {self.bridge} up && exec "$@"'
        )
        return ["unshare", "--net", "sh", "-c", prepare, "sh", *self._dockerd()]

    def _dockerd(self) -> list[str]:
        return [
            str(self._reference.dockerd),
            "--data-root", f"{self.root}/d", "--exec-root", f"{self.root}/x",
            "--pidfile", f"{self.root}/dockerd.pid", "--config-file", f"{self.root}/daemon.json",
            "-H", f"unix://{self.socket}", "--bridge", self.bridge, "--storage-driver", "overlay2",
        ]  # fmt: skip

    def start(self) -> tuple[float, float]:
        (self.root / "daemon.json").write_text("{}")
        return super().start()

    def in_its_network(self) -> list[str]:
        assert self.process is not None
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]

    def shim_mark(self) -> str:
        return f"{self.root}/x"
