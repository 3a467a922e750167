"""A real wharfd for a test module: own roots, socket and bridge, nothing shared with another daemon."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import xmlrpc.client
from pathlib import Path
from typing import Any

import docker
import psutil
from supervisor.xmlrpc import SupervisorTransport

from tests.harness import SESSION
from tests.harness.images import busybox_archive
from tests.harness.network import remove_bridge, remove_tables
from tests.harness.readiness import answers, remove_tree, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = ("containerd-shim", "engine", "apiserver")
#: Seconds from SIGTERM to the end of a daemon: its own time for containers, and some.
STOP_TIMEOUT = 120


class Engine:
    """Life: ``start`` -> (``docker``, ``client``, ``kill`` ...)* -> ``close``."""

    def __init__(self, *flags: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=f"wh-{SESSION}-", dir="/tmp"))
        self.exec_root = self.root / "x"
        self.data_root = self.root / "d"
        self.socket = self.root / "docker.sock"
        self.log = self.root / "wharfd.log"
        # At most 15 bytes (netdevice(7)).
        self.bridge = f"wht{SESSION}{secrets.token_hex(2)}"
        self.host = f"unix://{self.socket}"
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None

    # -- the daemon ---------------------------------------------------------------------------

    def command(self, *flags: str) -> list[str]:
        return [
            sys.executable, "-m", "services.engine.launch.main",
            "--data-root", str(self.data_root), "--exec-root", str(self.exec_root),
            "-H", self.host, "--bridge", self.bridge, "--config-file", str(self._empty_configuration()),
            *self.flags, *flags,
        ]  # fmt: skip

    def start(self, *flags: str) -> Engine:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(*flags), cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait_ready()
        return self

    def _empty_configuration(self) -> Path:
        path = self.root / "daemon.json"
        if not path.exists():
            path.write_text("{}")
        return path

    def wait_ready(self, timeout: float = 120) -> None:
        """Until the engine answers through the API; a daemon that ended fails at once."""

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"wharfd ended with {self.process.returncode}:\n{self.log_tail()}")
            return answers(self.socket, "/version")

        try:
            wait_until(ready, "wharfd answers", timeout)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, timeout: float = STOP_TIMEOUT) -> int:
        """SIGTERM and the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"wharfd did not stop within {timeout:g} s\n{self.log_tail()}") from None

    def restart(self, *flags: str) -> None:
        self.stop()
        self.start(*flags)

    def close(self) -> None:
        """Remove all containers, stop, and remove what a daemon leaves on purpose (its bridge)."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.remove_containers()
            if self.process is not None:
                self.stop()
        finally:
            remove_bridge(self.bridge)
            remove_tables(self.bridge)
            if not os.environ.get("WHARFD_KEEP_LOGS"):
                remove_tree(self.root)

    # -- its services -------------------------------------------------------------------------

    @property
    def supervisor(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.exec_root}/supervisor.sock")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def service_pids(self) -> dict[str, int]:
        return {item["name"]: item["pid"] for item in self.supervisor.getAllProcessInfo() if item["pid"]}

    def kill(self, *names: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to services at once, and see them gone (each is restarted by its supervisor)."""
        pids: dict[str, int] = {}

        def run() -> bool:
            pids.clear()
            pids.update(self.service_pids())
            return set(names) <= pids.keys() and all(self._is_executed(pids[name]) for name in names)

        wait_until(run, f"{', '.join(names)} run")
        workers = self._last_workers(pids["apiserver"]) if "apiserver" in names else []
        handles = [os.pidfd_open(pids[name]) for name in names]
        for handle in handles:
            signal.pidfd_send_signal(handle, number)
            with contextlib.suppress(ProcessLookupError):  # it has ended by that
                signal.pidfd_send_signal(handle, signal.SIGCONT)
        for handle in handles:
            os.close(handle)
        # A worker answers until it notices, and nobody does from then until the next API server listens.
        psutil.wait_procs(workers, timeout=60)
        wait_until(
            lambda: all(self.service_pids().get(name, pids[name]) != pids[name] for name in names),
            f"{', '.join(names)} restarted",
        )

    @staticmethod
    def _last_workers(apiserver: int) -> list[psutil.Process]:
        """Its children; it stands still afterwards, and makes no other one."""
        process = psutil.Process(apiserver)

        def stands_still() -> bool:
            process.suspend()
            return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)

        wait_until(stands_still, "the API server stands still")
        return process.children()

    def _is_executed(self, pid: int) -> bool:
        """What supervisord has forked has its handlers up to execve(2): a SIGTERM before is lost."""
        assert self.process is not None
        try:
            one, other = (Path(f"/proc/{each}/cmdline").read_bytes() for each in (pid, self.process.pid))
        except OSError:  # it has ended
            return False
        return one != other

    # -- its clients --------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH")
        }
        return environment | {"DOCKER_HOST": self.host, "DOCKER_CLI_HINTS": "false", "DOCKER_BUILDKIT": "0"}

    def docker(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """The docker command; with *check* a failure is an assertion that shows what it printed."""
        raw = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            input=b"" if stdin is None else stdin.encode(),
            capture_output=True,
            timeout=timeout,
        )
        # Decoded here: text mode would turn a terminal's "\r\n" into "\n".
        done = subprocess.CompletedProcess(
            raw.args, raw.returncode, raw.stdout.decode(errors="replace"), raw.stderr.decode(errors="replace")
        )
        if check and done.returncode:
            raise AssertionError(
                f"docker {' '.join(arguments)}: status {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["docker", *arguments], env=self.environment, **options)

    @functools.cached_property
    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.host, timeout=120)

    def load_images(self) -> None:
        self.client.images.load(busybox_archive())

    def remove_containers(self, prefix: str = "") -> None:
        """Those whose names begin with *prefix*, until there is none.

        Some may be going by themselves, or be removed for a client that has left.
        """

        def gone() -> bool:
            everything = self.client.api.containers(all=True)
            found = [item for item in everything if item["Names"][0].startswith(f"/{prefix}")]
            for item in found:
                try:
                    self.client.api.remove_container(item["Id"], force=True, v=True)
                except docker.errors.APIError as error:
                    if error.status_code not in (404, 409):
                        raise
            return not found

        wait_until(gone, "all containers are removed")
