"""What runs while services are killed: counters, followers of their output, a storm of short lives."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path

import docker
import requests

from tests.harness.engine import Engine
from tests.harness.network import links
from tests.harness.readiness import wait_until
from tests.harness.streams import Stream

#: Prints a counted line every 10 ms.
COUNTER = "i=0; while :; do i=$((i+1)); echo $i; usleep 10000; done"


def is_counted(lines: list[str], first: int = 1) -> bool:
    """True when *lines* are the numbers from *first* on, each once and in order."""
    return lines == [str(number) for number in range(first, first + len(lines))]


def logged(engine: Engine, name: str) -> list[str]:
    return engine.docker("logs", name).stdout.splitlines()


class Follower:
    """An attached client that reads a counter's lines as they come."""

    def __init__(self, engine: Engine, name: str) -> None:
        url = f"/containers/{name}/attach?stream=1&stdout=1"
        self.stream = Stream(engine.socket, "POST", url, upgrade=True)
        assert self.stream.status == 101
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            for line in self.stream.lines():
                self.lines.append(line)

    def check_streams_on(self, count: int = 20) -> None:
        """*count* more lines come, and none was lost or doubled since the first one seen."""
        seen = len(self.lines)
        wait_until(lambda: len(self.lines) >= seen + count, "the attached client still gets lines")
        lines = self.lines[1:]  # the first may be cut by the moment of attaching
        assert is_counted(lines, int(lines[0]))

    def close(self) -> None:
        self.stream.close()
        self._thread.join(60)


class Storm:
    """Threads that create, start and remove containers for as long as they are let.

    A request that a crash cuts off may fail; what the daemon says afterwards must be true.
    """

    def __init__(self, engine: Engine, threads: int = 2) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self.rounds = 0
        self.unexpected: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, index: int) -> None:
        client = docker.APIClient(base_url=self._engine.host, timeout=120)
        turn = 0
        while not self._stop.is_set():
            turn += 1
            name = f"storm-{index}-{turn}"
            try:
                client.create_container("busybox", ["sleep", "100"], name=name)
                client.start(name)
                client.remove_container(name, force=True)
                self.rounds += 1
            except (requests.exceptions.RequestException, docker.errors.DockerException, OSError) as error:
                if isinstance(error, docker.errors.APIError) and error.status_code == 500:
                    self.unexpected.append(str(error))
                time.sleep(0.02)
        client.close()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(180)
            assert not thread.is_alive(), "a request of the storm never ended"
        self.clean()

    def clean(self) -> None:
        """Also what a request still makes whose API server was killed: to be repeated until it is over."""
        self._engine.remove_containers("storm-")


def shim(engine: Engine, identity: str) -> int:
    """The pid of a container's shim. It is not the parent of its init before the maker has ended."""
    return int(json.loads((engine.exec_root / "shims" / identity / "state.json").read_bytes())["shim_pid"])


def veths(engine: Engine) -> set[str]:
    """Host ends of the containers' links: what is enslaved to the daemon's bridge."""
    found = set()
    for name in links():
        with contextlib.suppress(OSError):  # it has no master, or is gone since it was listed
            if os.path.basename(os.readlink(f"/sys/class/net/{name}/master")) == engine.bridge:
                found.add(name)
    return found


def cgroups(identities: set[str]) -> set[str]:
    """Which of *identities* have a cgroup."""
    found = {name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names}
    return identities & found


def check_no_orphans(engine: Engine, ever: set[str]) -> None:
    """Kernel and disk agree with the API about which containers there are.

    *ever* are ids of containers that have been, to be looked for among the cgroups.
    """

    def told() -> tuple[set[str], set[str]]:
        everything = engine.client.api.containers(all=True)
        running = {item["Id"] for item in everything if item["State"] in ("running", "paused")}
        return running, {item["Id"] for item in everything}

    def settled() -> bool:
        running, existing = told()  # one whose shim was killed ends a moment later
        shims = {path.name for path in (engine.exec_root / "shims").iterdir()}
        directories = {path.name for path in (engine.data_root / "containers").iterdir()}
        return (
            shims == running
            and directories == existing
            and len(veths(engine)) == len(running)
            and cgroups(ever | existing) == running
        )

    try:
        wait_until(settled, "no orphans")
    except TimeoutError:
        running, existing = told()
        shims = {path.name for path in (engine.exec_root / "shims").iterdir()}
        directories = {path.name for path in (engine.data_root / "containers").iterdir()}
        raise AssertionError(
            f"running {running}\nshims {shims ^ running}\ndirectories {directories ^ existing}\n"
            f"veths {veths(engine)}\ncgroups {cgroups(ever | existing) ^ running}\n{engine.log_tail()}"
        ) from None
    host = Path("/proc/self/mountinfo").read_text()
    for identity in ever - told()[0]:
        assert identity not in host
