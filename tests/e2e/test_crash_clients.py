"""Clients that notice nothing: the docker command at work while the services behind the API are killed.

The API server holds the clients' connections, so it lives; engine and task service are killed at any
point of a create, start, attach, wait, exec, stop or removal. Every command ends as if nothing had been.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.crash import check_no_orphans
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

SECONDS = 12


class Clients:
    """Threads that repeat a command until they are stopped; what went wrong is kept."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.directory = directory
        self.wrong: list[str] = []
        self.rounds = 0
        self._stop = threading.Event()
        works: list[Callable[[str], None]] = [self.run, self.run, self.exec, self.live]
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, index)) for index, work in enumerate(works)
        ]

    def _repeat(self, work: Callable[[str], None], index: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            try:
                work(f"{index}-{turn}")
            except Exception as error:
                self.wrong.append(f"{work.__name__} {index}-{turn}: {error!r}")
            self.rounds += 1

    def run(self, name: str) -> None:
        """Exit code and output are right, and the command ran once."""
        code = random.choice((0, 3, 7))
        script = f"echo ran >> /d/{name}; echo out; sleep 0.{random.randint(0, 5)}; echo end; exit {code}"
        done = self.engine.docker(
            "run", "--rm", "-v", f"{self.directory}:/d", "busybox", "sh", "-c", script, check=False
        )
        assert (done.returncode, done.stdout) == (code, "out\nend\n"), done.stderr
        assert (self.directory / name).read_text() == "ran\n"

    def exec(self, name: str) -> None:
        done = self.engine.docker(
            "exec", "stable", "sh", "-c", f"echo {name}; sleep 0.{random.randint(0, 5)}; exit 5", check=False
        )
        assert (done.returncode, done.stdout) == (5, f"{name}\n"), done.stderr

    def live(self, name: str) -> None:
        name = f"live-{name}"
        self.engine.docker("create", "--name", name, "-v", "/anonymous", "-p", "80", "busybox", "sleep", "99")
        for command in (["start"], ["restart", "-t", "0"], ["stop", "-t", "0"], ["start"]):
            self.engine.docker(*command, name)
        self.engine.docker("rm", "-f", "-v", name)

    def __enter__(self) -> Clients:
        self.engine.docker("run", "-d", "--name", "stable", "busybox", "sleep", "300")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(180)
        alive = [thread for thread in self._threads if thread.is_alive()]
        self.engine.docker("rm", "-f", "stable")
        assert not alive, "a command never ended"


BOTH = ("engine", "containerd-shim")


@pytest.mark.parametrize(
    ("victims", "number"),
    [
        (("engine",), signal.SIGKILL),
        (("containerd-shim",), signal.SIGKILL),
        (BOTH, signal.SIGKILL),
        (("engine",), signal.SIGTERM),
    ],
    ids=["engine", "containerd-shim", "both", "upgrade of the engine"],
)
def test_commands_end_as_if_nothing_had_been(
    engine: Engine, tmp_path: Path, victims: tuple[str, ...], number: signal.Signals
) -> None:
    clients = Clients(engine, tmp_path)
    until = time.monotonic() + SECONDS
    with clients:
        while time.monotonic() < until:
            time.sleep(random.uniform(0.3, 1.5))
            engine.kill(*victims, number=number)
        # Whatever was cut off goes on, and so do all others.
        wait_until(lambda: clients.rounds > 4, "commands end")
    assert not clients.wrong, "\n".join(clients.wrong)
    assert engine.docker("ps", "-aq").stdout == ""
    assert engine.docker("volume", "ls", "-q").stdout == ""
    check_no_orphans(engine, set())
