"""The API's sockets are there for as long as the daemon, whatever becomes of the API server."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.engine import REPOSITORY, Engine
from tests.harness.readiness import UnixConnection, answers

#: What a service manager does: sd_listen_fds(3).
_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""

#: Seconds between two clients. All those that come before an API server is there again lie in its backlog,
#: which has room for those of 50 seconds.
_PAUSE = 0.05


@contextmanager
def _connecting(path: Path) -> Iterator[list[str]]:
    """Clients connect all the time; those that could not are in the list."""
    failed: list[str] = []
    stop = threading.Event()

    def connect() -> None:
        while not stop.is_set():
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(str(path))
                except OSError as error:
                    failed.append(str(error))
            stop.wait(_PAUSE)

    thread = threading.Thread(target=connect)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join()


def test_nobody_is_refused_while_the_api_server_starts_again(engine: Engine) -> None:
    with _connecting(engine.socket) as failed:
        for number in (signal.SIGKILL, signal.SIGTERM):
            engine.kill("apiserver", number=number)
            engine.wait_ready()
        engine.supervisor.stopProcess("apiserver")
        waiting = UnixConnection(engine.socket)
        waiting.request("GET", "/version")
        engine.supervisor.startProcess("apiserver")
        assert waiting.getresponse().status == 200
        waiting.close()
    assert failed == []


def test_sockets_of_the_service_manager_and_the_end(docker_command: None) -> None:
    """``-H fd://`` beside another address: one is left as it was, the other one goes with the daemon."""
    engine = Engine("-H", "fd://")
    given = engine.root / "given.sock"
    try:
        with socket.socket(socket.AF_UNIX) as passed, engine.log.open("ab") as log:
            passed.bind(str(given))
            passed.listen()
            engine.process = subprocess.Popen(
                [sys.executable, "-c", _ACTIVATE, str(passed.fileno()), *engine.command()],
                cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[passed.fileno()],
            )  # fmt: skip
        for _ in range(2):
            engine.wait_ready()
            assert answers(given, "/version")
            engine.kill("apiserver")
        engine.wait_ready()
        assert engine.stop() == 0
        assert given.exists() and not engine.socket.exists()
    finally:
        engine.close()
