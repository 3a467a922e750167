"""A real API server process per module, a fake engine per test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.network import unused_port
from tests.unit.apiserver.fakes import Client, FakeEngine

ROOT = Path(__file__).parents[3]


@dataclass
class Server:
    exec_root: Path
    client: Client
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def worker(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])


@contextlib.contextmanager
def start_server(root: Path) -> Iterator[Server]:
    path, port, log = root / "docker.sock", unused_port(), root / "log"
    command = [sys.executable, "-m", "services.apiserver.main", "--exec-root", str(root)]
    command += ["--host", f"unix://{path}", "--host", f"tcp://127.0.0.1:{port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stderr=output, stdout=output, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    try:
        client = Client(path)
        wait_until_answers(client, log)
        yield Server(root, client, port, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with start_server(tmp_path_factory.mktemp("exec")) as running:
        yield running
    log = running.log.read_text()
    assert "Traceback" not in log and "ASGI" not in log, log


def wait_until_answers(client: Client, log: Path) -> None:
    for _ in range(2000):
        try:
            if client.request("GET", "/_ping")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the API server does not answer: {log.read_text()}")


@pytest.fixture
def engine(server: Server) -> Iterator[FakeEngine]:
    """Not started: the test registers its handlers first."""
    fake = FakeEngine(server.exec_root)
    try:
        yield fake
    finally:
        fake.stop()


@pytest.fixture
def client(server: Server) -> Client:
    return server.client
