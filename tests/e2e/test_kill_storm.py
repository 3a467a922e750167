"""Everything at once while services are killed: run, exec, cp, build, networks and volumes.

What the daemon says afterwards is true, and nothing is left of what is gone. ``WHARFD_STORM=<seconds>``
makes each case longer.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from tests.e2e.crash import cgroups, check_no_orphans
from tests.harness.engine import SERVICES, Engine
from tests.harness.network import links
from tests.harness.readiness import wait_until

SECONDS = float(os.environ.get("WHARFD_STORM", "6"))
VICTIMS = [(service,) for service in SERVICES] + [SERVICES]

pytestmark = pytest.mark.timeout(int(SECONDS * 3 + 180))

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
        works = (self._run, self._exec, self._copy, self._build, self._networks, self._volumes, self._ports)
        self._threads = [threading.Thread(target=self._repeat, args=(work,)) for work in works]
        for thread in self._threads:
            thread.start()

    def _repeat(self, work: Callable[[docker.APIClient, int], None]) -> None:
        client = docker.APIClient(base_url=self._engine.host, timeout=60)
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
            except (
                requests.exceptions.RequestException,
                docker.errors.DockerException,
                OSError,
                ValueError,
            ) as error:
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

    def _exec(self, client: docker.APIClient, turn: int) -> None:
        made = client.exec_create(self._long_lived, ["echo", str(turn)])["Id"]
        client.exec_start(made)

    def _copy(self, client: docker.APIClient, turn: int) -> None:
        client.put_archive(self._long_lived, "/tmp", _archive("copied", b"x" * 100_000))
        stream, _ = client.get_archive(self._long_lived, "/tmp/copied")
        for _ in stream:
            pass

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
            thread.join(100)
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
            lambda: all(storms.done[kind] > before[kind] for kind in before), f"all goes on {before}", 60
        )
    finally:
        engine.wait_ready()
        storms.end()
    assert not storms.unexpected, "\n".join(storms.unexpected[:10])
    assert engine.client.api.inspect_container(name)["State"]["Pid"] == pid
    _clean(engine, keep=name)
    check_no_orphans(engine, seen)
    _check_everything(engine, name, seen)


def _clean(engine: Engine, keep: str) -> None:
    """What the storm was cut off from removing, by the API: so that all that is left is an orphan."""
    api = engine.client.api
    for item in api.containers(all=True):
        if item["Names"] != [f"/{keep}"]:
            with contextlib.suppress(docker.errors.NotFound, docker.errors.APIError):
                api.remove_container(item["Id"], force=True, v=True)
    wait_until(lambda: len(api.containers(all=True)) == 1, "all containers are removed")
    for network in list(api.inspect_container(keep)["NetworkSettings"]["Networks"]):
        if network != "bridge":
            api.disconnect_container_from_network(keep, network, force=True)
    api.prune_networks()
    api.prune_volumes({"all": ["true"]})
    api.prune_images({"dangling": ["true"]})


def _check_everything(engine: Engine, name: str, seen: set[str]) -> None:
    api = engine.client.api
    assert {item["Name"] for item in api.networks()} == {"bridge", "host", "none"}
    assert not [item["Name"] for item in api.volumes()["Volumes"] or []]
    container = api.inspect_container(name)["Id"]
    with sqlite3.connect(f"file:{engine.data_root}/engine.db?mode=ro", uri=True) as database:

        def rows(sql: str) -> set[str]:
            return {row[0] for row in database.execute(sql)}

        def agree() -> bool:
            return rows("SELECT container_id FROM sandboxes") == {container}

        wait_until(agree, "the database has no sandbox of what is gone")
        assert rows("SELECT id FROM containers") == {container}
        assert rows("SELECT container_id FROM rw_layers") <= {container} | seen
        assert rows("SELECT name FROM networks") == {"bridge", "host", "none"}
        assert rows("SELECT name FROM volumes") == set()
    temporary = sorted(path.name for path in (engine.data_root / "tmp").iterdir())
    assert temporary == ["root"], temporary
    assert sorted(path.name for path in (engine.data_root / "volumes").iterdir()) == []
    bridges = {one for one in links() if one.startswith("br-")}
    for item in api.networks():
        bridges.discard(f"br-{item['Id'][:12]}")
    assert not (bridges - _foreign_bridges(engine)), bridges
    _check_rules(engine)
    assert not cgroups(seen - {container})
    mounts = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(engine.root) in line
    ]
    assert not [
        line for line in mounts if "overlay" in line or "/tmp/" in line.split()[4].removeprefix("/tmp/")
    ], mounts
    assert sorted(os.listdir(engine.exec_root / "shims")) == [container]


def _foreign_bridges(engine: Engine) -> set[str]:
    """Bridges of other daemons of this host."""
    return (
        set()
        if not os.environ.get("WHARFD_SHARED_HOST")
        else {one for one in links() if one.startswith("br-")}
    )


def _check_rules(engine: Engine) -> None:
    """Published ports of containers that are gone lead nowhere."""
    if shutil.which("nft") is None:
        return
    out = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    table = out[out.find(engine.bridge) :]
    assert " . 80 " not in table or socket.gethostname() is None
