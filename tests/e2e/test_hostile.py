"""Hostile requests against a real daemon: never an error of ours for a mistake of theirs.

The requests are drawn from a fixed seed. ``WHARFD_FUZZ=<rounds>`` makes the test longer, and
``WHARFD_FUZZ_SEED`` takes another seed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.protocol.api import containers as c
from services.protocol.api import execs, networks, volumes
from tests.harness import leaks
from tests.harness.engine import Engine
from tests.harness.fuzz import RAW_BODIES, RAW_QUERY, Fuzz
from tests.harness.readiness import wait_until

ROUNDS = int(os.environ.get("WHARFD_FUZZ", "60"))
SEED = int(os.environ.get("WHARFD_FUZZ_SEED", "20261122"))

#: What dockerd answers with 500 (503) as well: the runtime's refusals, and checks that know no better.
_OWN_500 = re.compile(
    r"failed to create task for container: "
    r"|failed to set up container networking: "
    r"|OCI runtime exec failed: "
    r"|error gathering device information while adding custom device "
    r"|invalid device cgroup rule format: "
    r"|could not select device driver |failed to discover GPU vendor from CDI"
    r"|stat .*: (no such file or directory|invalid argument|file name too long|not a directory)"
    r"|invalid volume specification: |invalid mode: |Unknown option |unknown option "
    r"|container \w+ is not connected to network "
    r"|Cannot update container \w+: "
    r"|ps: |ps failed|Couldn't find PID field"
    r"|Cannot mkdir: |error while creating mount source path "
    r"|create .*: error while creating volume root path "
    r"|create [\w.-]{8000}|invalid --security-opt "
    r"|ulimit option |Get .* no such host"
    r"|unable to find (user|group) "
    r"|--storage-opt is supported only for overlay over xfs"
    r"|This node is not a swarm manager\. ",
    re.DOTALL,
)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=90)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(90)
        self.sock.connect(self._path)


class Hostile:
    """Sends, and judges each answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.problems: list[str] = []
        self.answers: dict[int, int] = {}

    def send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        connection = _Connection(str(self._engine.socket))
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            if body is not None:
                connection.putheader("Content-Type", "application/json")
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            data = b"" if response.status == 101 or "X-Docker" in str(response.headers) else response.read()
        except (OSError, http.client.HTTPException) as error:
            self._blame(f"{error!r}", method, path, body)
            return 0, None
        finally:
            connection.close()
        self.answers[response.status] = self.answers.get(response.status, 0) + 1
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        message = document.get("message", "") if isinstance(document, dict) else ""
        if response.status in (500, 502, 503, 504) and not _OWN_500.match(message):
            self._blame(f"{response.status} {message[:300]}", method, path, body)
        return response.status, document

    def post(self, path: str, document: Any) -> tuple[int, Any]:
        return self.send("POST", path, json.dumps(document).encode())

    def _blame(self, what: str, method: str, path: str, body: bytes | None) -> None:
        self.problems.append(f"{what}\n    {method} {path[:200]}\n    {(body or b'')[:400]!r}")


@pytest.fixture
def hostile(engine: Engine) -> Iterator[Hostile]:
    """What is left behind, and what the services have logged, is judged at the end."""
    before, logged = _everything(engine), {path: path.stat().st_size for path in _logs(engine)}
    sender = Hostile(engine)
    yield sender
    assert not sender.problems, "\n".join(sender.problems[:20])
    for path, size in logged.items():
        text = path.read_bytes()[size:].decode(errors="replace")
        at = text.find("Traceback")
        assert at < 0, text[max(0, at - 300) : at + 3000]
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: _everything(engine) == before, "all is as before")
    assert _everything(engine) == before


def _logs(engine: Engine) -> list[Path]:
    return sorted((engine.exec_root / "log").glob("*.log"))


def _everything(engine: Engine) -> dict[str, Any]:
    api = engine.client.api
    return {
        "containers": sorted(item["Id"] for item in api.containers(all=True)),
        "networks": sorted(item["Name"] for item in api.networks()),
        "volumes": sorted(item["Name"] for item in api.volumes()["Volumes"] or []),
        "images": sorted(item["Id"] for item in api.images()),
        "shims": sorted(os.listdir(engine.exec_root / "shims")),
        "directories": sorted(os.listdir(engine.data_root / "containers")),
        "mounts": sorted(one for one in leaks.take().mounts if str(engine.root) in one),
    }


@pytest.fixture
def sleeper(engine: Engine, hostile: Hostile) -> Iterator[str]:
    container = engine.client.containers.run("busybox", ["sleep", "1000"], detach=True)
    yield container.id
    container.remove(force=True, v=True)


def test_create_and_start(hostile: Hostile) -> None:
    fuzz = Fuzz(SEED)
    base = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {}}
    for _ in range(ROUNDS * 2):
        status, made = hostile.post("/containers/create", fuzz.document(c.CreateRequest, base))
        if status == 201:
            path = f"/containers/{made['Id']}"
            for method, rest in (("GET", "/json"), ("POST", "/start"), ("POST", "/kill?signal=KILL")):
                hostile.send(method, path + rest)
            hostile.send("DELETE", f"{path}?force=1&v=1")


def test_networks(hostile: Hostile, sleeper: str) -> None:
    fuzz = Fuzz(SEED + 1)
    for number in range(ROUNDS // 2):
        document = fuzz.document(networks.NetworkCreateRequest, {"Name": f"fz{number}"})
        status, made = hostile.post("/networks/create", document)
        if status != 201:
            continue
        path = f"/networks/{made['Id']}"
        hostile.send("GET", path)
        hostile.post(f"{path}/connect", fuzz.document(networks.ConnectRequest, {"Container": sleeper}))
        hostile.post(
            f"{path}/disconnect", fuzz.document(networks.DisconnectRequest, {"Container": sleeper}, 1)
        )
        hostile.post(f"{path}/disconnect", {"Container": sleeper})
        hostile.send("DELETE", path)


def test_volumes(hostile: Hostile) -> None:
    fuzz = Fuzz(SEED + 2)
    for number in range(ROUNDS):
        document = fuzz.document(volumes.VolumeCreateRequest, {"Name": f"fz{number}"})
        status, made = hostile.post("/volumes/create", document)
        if status == 201:
            hostile.send("GET", f"/volumes/{made['Name']}")
            hostile.send("DELETE", f"/volumes/{made['Name']}")


def test_updates_and_execs(hostile: Hostile, sleeper: str) -> None:
    fuzz = Fuzz(SEED + 3)
    config = {"Cmd": ["true"], "AttachStdout": True}
    for _ in range(ROUNDS):
        hostile.post(f"/containers/{sleeper}/update", fuzz.document(c.UpdateRequest, {}))
        status, made = hostile.post(f"/containers/{sleeper}/exec", fuzz.document(execs.ExecConfig, config))
        if status == 201:
            path = f"/exec/{made['Id']}"
            hostile.post(f"{path}/start", fuzz.document(execs.ExecStart, {}, 1))
            hostile.send("GET", f"{path}/json")


_BODIES = (
    "/containers/create", "/containers/{id}/update", "/containers/{id}/exec", "/networks/create",
    "/networks/bridge/connect", "/networks/bridge/disconnect", "/volumes/create",
    "/commit?container={id}&repo=a:b:c",
)  # fmt: skip


def test_bodies_that_are_no_documents(hostile: Hostile, sleeper: str) -> None:
    for path in _BODIES:
        for body in RAW_BODIES:
            status, made = hostile.send("POST", path.format(id=sleeper), body)
            if status == 201 and path == "/volumes/create":
                hostile.send("DELETE", f"/volumes/{made['Name']}")
            elif status == 201 and path == "/containers/create":
                hostile.send("DELETE", f"/containers/{made['Id']}")


#: Method, path and the names of its query parameters.
_QUERIES = (
    ("GET", "/containers/json", ("all", "limit", "size", "filters")),
    ("GET", "/containers/{id}/json", ("size",)),
    ("GET", "/containers/{id}/top", ("ps_args",)),
    ("GET", "/containers/{id}/logs", ("stdout", "stderr", "since", "until", "tail", "timestamps", "details")),
    ("GET", "/containers/{id}/stats", ("one-shot",)),
    ("GET", "/containers/{id}/archive", ("path",)),
    ("HEAD", "/containers/{id}/archive", ("path",)),
    ("PUT", "/containers/{id}/archive", ("path", "noOverwriteDirNonDir", "copyUIDGID")),
    ("POST", "/containers/{id}/resize", ("h", "w")),
    ("POST", "/containers/{id}/kill", ("signal",)),
    ("POST", "/containers/nosuch/stop", ("t", "signal")),
    ("POST", "/containers/{id}/wait", ("condition",)),
    ("POST", "/containers/{id}/rename", ("name",)),
    ("POST", "/containers/prune", ("filters",)),
    ("DELETE", "/containers/nosuch", ("force", "v", "link")),
    ("GET", "/networks", ("filters",)),
    ("GET", "/networks/bridge", ("verbose", "scope")),
    ("POST", "/networks/prune", ("filters",)),
    ("GET", "/volumes", ("filters",)),
    ("POST", "/volumes/prune", ("filters",)),
    ("DELETE", "/volumes/nosuch", ("force",)),
    ("GET", "/images/json", ("all", "filters", "shared-size", "digests")),
    ("GET", "/images/busybox/json", ("platform",)),
    ("POST", "/images/nosuch/tag", ("repo", "tag")),
    ("POST", "/images/prune", ("filters",)),
    ("DELETE", "/images/nosuch", ("force", "noprune")),
    ("POST", "/commit", ("repo", "tag", "comment", "author", "changes")),
    ("GET", "/system/df", ("type", "verbose")),
    ("GET", "/events", ("since", "filters")),
    ("POST", "/build/prune", ("filters", "keep-storage", "all")),
    ("GET", "/images/get", ("names",)),
)
#: A stopped container is waited for, pruned and looked into without end or loss.
_BOUNDED = {"/events": "until=1&", "/containers/{id}/stats": "stream=0&"}


def test_query_strings(hostile: Hostile, sleeper: str) -> None:
    fuzz = Fuzz(SEED + 4)
    for method, path, names in _QUERIES:
        if method == "POST" and path.endswith(("/wait", "/kill", "/prune")):
            values = [
                one for one in RAW_QUERY if one not in ("", "%0a", "0", "null", "%22%22", "%7b%7d", "1")
            ]
            queries = [f"{names[0]}={fuzz.random.choice(values)}" for _ in range(ROUNDS // 6)]
        else:
            queries = [fuzz.query(names) for _ in range(ROUNDS // 6)]
        for query in queries:
            hostile.send(method, f"{path.format(id=sleeper)}?{_BOUNDED.get(path, '')}{query}")


def test_addresses_of_registries(hostile: Hostile) -> None:
    """Those that name no host; others would be asked."""
    for address in (
        "a\0b",
        " ",
        "[::1",
        "http://[",
        "::1",
        "localhost:x",
        "x y",
        "%00",
        "%zz",
        "a|b",
        "[::1]x",
        "\n",
    ):
        body = {"username": "a", "password": "b", "serveraddress": address}
        assert hostile.post("/auth", body)[0] == 400, address
    for address in ("..", "../..", "a..b", "x" * 64):
        body = {"username": "a", "password": "b", "serveraddress": address}
        status, answer = hostile.post("/auth", body)
        assert (status, answer["message"][-12:]) == (500, "no such host"), address


def test_what_go_replaces_in_a_string_is_replaced(hostile: Hostile) -> None:
    for body in (
        b'{"Name":"ab","Labels":{"k":"\\ud800x\\udfff"}}',
        b'{"Name":"ab","Labels":{"k":"\xffx\xff"}}',
    ):
        status, made = hostile.send("POST", "/volumes/create", body)
        assert (status, made["Labels"]) == (201, {"k": "\ufffdx\ufffd"})
        hostile.send("DELETE", "/volumes/ab")


def test_names_in_paths(hostile: Hostile) -> None:
    values = [one for one in RAW_QUERY if len(one) < 2000]
    for prefix, rest in (
        ("/containers/", "/json"),
        ("/exec/", "/json"),
        ("/images/", "/json"),
        ("/images/", "/history"),
        ("/networks/", ""),
        ("/volumes/", ""),
        ("/distribution/", "/json"),
        ("/", ""),
        ("/v1.", "/info"),
    ):
        for value in values:
            if prefix != "/distribution/" or not value[:1].isalnum():
                hostile.send("GET", f"{prefix}{value}{rest}")
