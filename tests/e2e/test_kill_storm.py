"""Everything at once while services are killed: run, exec, cp, commit, build, networks and volumes.

What the daemon says afterwards is true, and nothing is left of what is gone. ``WHARFD_STORM=<seconds>``
makes each case longer.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import tarfile
import threading
import time
from collections.abc import Callable
from typing import Any

import docker
import pytest
import requests
import urllib3

from tests.e2e import leftovers
from tests.e2e.crash import check_no_orphans
from tests.harness.engine import SERVICES, Engine
from tests.harness.readiness import wait_until

SECONDS = float(os.environ.get("WHARFD_STORM", "6"))
VICTIMS = [(service,) for service in SERVICES] + [SERVICES]

pytestmark = pytest.mark.timeout(int(SECONDS * 3 + 400))

#: What a request that a crash cuts off may be told: any of these is true at that moment.
_EXCUSES = (
    "the request was cancelled",
    "went away",
    "was killed",
    "is shutting down",
    "cannot hand the connection over",
    "cannot pass the request's body",
    "closed the connection",
    "has ended",
)
#: How the docker library says that a connection was cut.
_CUT_OFF = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    docker.errors.DockerException,
    OSError,
    ValueError,
)
_DOCKERFILE = b"FROM busybox\nRUN echo %d >/made\nCOPY made /copied\nRUN test -f /made\n"


class Storms:
    """Threads, each repeating its kind of work until the end; errors of our own are collected."""

    def __init__(self, engine: Engine, long_lived: str) -> None:
        self._engine = engine
        self._long_lived = long_lived
        self._stop = threading.Event()
        self.done: dict[str, int] = {}
        self.unexpected: list[str] = []
        #: The last error of each kind of work.
        self.errors: dict[str, str] = {}
        works = (self._run, self._life, self._exec, self._copy, self._commit, self._build, self._networks,
                 self._volumes, self._ports)  # fmt: skip
        self._threads = [threading.Thread(target=self._repeat, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def _repeat(self, work: Callable[[docker.APIClient, int], None]) -> None:
        client = docker.APIClient(base_url=self._engine.host, timeout=120)
        name, turn = work.__name__.strip("_"), 0
        self.done[name] = 0
        while not self._stop.is_set():
            turn += 1
            try:
                work(client, turn)
                self.done[name] += 1
            except docker.errors.APIError as error:
                self.errors[name] = str(error)
                if error.status_code == 500 and not any(text in str(error) for text in _EXCUSES):
                    self.unexpected.append(f"{name}: {error}")
            except _CUT_OFF as error:
                self.errors[name] = repr(error)
                time.sleep(0.02)
            except Exception as error:
                self.unexpected.append(f"{name}: {error!r}")
        client.close()

    def _run(self, client: docker.APIClient, turn: int) -> None:
        name = f"storm-run-{turn}"
        with self._removed(client, name):
            client.create_container("busybox", ["echo", "out"], name=name, volumes=["/data"])
            client.start(name)
            assert client.wait(name)["StatusCode"] == 0
            assert client.logs(name) == b"out\n"

    @contextlib.contextmanager
    def _removed(self, client: docker.APIClient, name: str) -> Any:
        yield
        client.remove_container(name, force=True, v=True)

    def _life(self, client: docker.APIClient, turn: int) -> None:
        name = f"storm-life-{turn}"
        with self._removed(client, name):
            client.create_container("busybox", ["sleep", "100"], name=name, volumes=["/data"])
            client.start(name)
            client.pause(name)
            client.unpause(name)
            client.restart(name, timeout=0)
            client.stop(name, timeout=0)

    def _exec(self, client: docker.APIClient, turn: int) -> None:
        made = client.exec_create(self._long_lived, ["echo", str(turn)])["Id"]
        client.exec_start(made)

    def _copy(self, client: docker.APIClient, turn: int) -> None:
        client.put_archive(self._long_lived, "/tmp", _archive("copied", b"x" * 100_000))
        stream, _ = client.get_archive(self._long_lived, "/tmp/copied")
        for _ in stream:
            pass

    def _commit(self, client: docker.APIClient, turn: int) -> None:
        """It pauses the container, in which an exec begins at the same time."""
        client.remove_image(client.commit(self._long_lived, message=str(turn))["Id"])

    def _build(self, client: docker.APIClient, turn: int) -> None:
        context = _archive("Dockerfile", _DOCKERFILE % turn, "made", str(turn).encode())
        for _ in client.build(fileobj=io.BytesIO(context), custom_context=True, rm=True, forcerm=True):
            pass

    def _networks(self, client: docker.APIClient, turn: int) -> None:
        name = f"storm-net-{turn}"
        client.create_network(name)
        client.connect_container_to_network(self._long_lived, name)
        client.disconnect_container_from_network(self._long_lived, name, force=True)
        client.remove_network(name)

    def _volumes(self, client: docker.APIClient, turn: int) -> None:
        client.create_volume(f"storm-volume-{turn}")
        client.remove_volume(f"storm-volume-{turn}")

    def _ports(self, client: docker.APIClient, turn: int) -> None:
        name = f"storm-port-{turn}"
        host = client.create_host_config(port_bindings={80: None}, auto_remove=True)
        client.create_container("busybox", ["sleep", "0.1"], name=name, host_config=host, ports=[80])
        client.start(name)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(180)
            assert not thread.is_alive(), f"a request of the storm never ended: {thread.name}"


def _archive(*members: Any) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in zip(members[::2], members[1::2], strict=True):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize("victims", VICTIMS, ids=lambda victims: "all" if len(victims) > 1 else victims[0])
def test_storm_of_everything(engine: Engine, name: str, victims: tuple[str, ...]) -> None:
    engine.client.containers.run("busybox", ["sleep", "1000"], name=name, detach=True)
    pid = engine.client.api.inspect_container(name)["State"]["Pid"]
    seen: set[str] = set()
    mounts = leftovers.mounts(engine)
    storms = Storms(engine, name)
    try:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(random.uniform(0.1, 1.0))
            seen |= {path.name for path in (engine.data_root / "containers").iterdir()}
            engine.kill(*victims)
            engine.wait_ready()
        before = dict(storms.done)
        wait_until(
            lambda: all(storms.done[kind] > before[kind] for kind in before), f"all goes on {before}", 180
        )
    finally:
        engine.wait_ready()
        storms.end()
    assert not storms.unexpected, "\n".join(storms.unexpected[:10])

    def state() -> dict[str, Any]:
        found: dict[str, Any] = engine.client.api.inspect_container(name)["State"]
        return found

    assert state()["Pid"] == pid
    wait_until(lambda: state()["Status"] == "running", "no commit has left it paused")
    leftovers.clean(engine, keep=name)
    check_no_orphans(engine, seen)
    leftovers.check(engine, name)
    wait_until(lambda: leftovers.mounts(engine) == mounts, "no mount is left")
