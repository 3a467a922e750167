"""The processes: listeners, restarts, the real client, a browser's websocket."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
import websocket

from services.apiserver import listeners
from services.protocol.errors import NotFound
from services.protocol.fdpass import Handover, HandoverEnvelope
from services.protocol.verbs import containers as verbs
from services.protocol.verbs import system as system_verbs
from tests.harness.readiness import wait_until
from tests.unit.apiserver.conftest import Server, wait_until_answers
from tests.unit.apiserver.fakes import FakeEngine, FakeShim


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def _titles(server: Server) -> list[str]:
    pids = [server.process.pid, server.worker]
    return [Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ").decode() for pid in pids]


def test_both_processes_have_the_title(server: Server) -> None:
    assert _titles(server) == ["wharfd: apiserver", "wharfd: apiserver"]


def test_a_killed_worker_is_replaced(server: Server) -> None:
    worker = server.worker
    os.kill(worker, signal.SIGKILL)
    for _ in range(2000):
        with contextlib.suppress(IndexError):
            if server.worker != worker:
                break
        time.sleep(0.05)
    wait_until_answers(server.client, server.log)
    assert server.worker != worker and not _alive(worker)


def test_hangup_leaves_the_listeners_alone(server: Server) -> None:
    worker = server.worker
    server.process.send_signal(signal.SIGHUP)
    for _ in range(2000):
        with contextlib.suppress(IndexError):
            if server.worker != worker and not _alive(worker):
                break
        time.sleep(0.05)
    wait_until_answers(server.client, server.log)
    assert not _alive(worker)


def test_streams_end_when_the_server_stops(tmp_path: Path, engine: FakeEngine, server: Server) -> None:
    """The worker is asked to stop, as at a restart of the service: followers do not hold it up."""
    engine.start()
    worker = server.worker
    with server.client.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        assert sock.recv(12) == b"HTTP/1.1 200"
        os.kill(worker, signal.SIGTERM)
        data = b""
        while chunk := sock.recv(4096):
            data += chunk
        assert data.endswith(b"0\r\n\r\n")
    for _ in range(2000):
        if not _alive(worker):
            break
        time.sleep(0.05)
    assert not _alive(worker)
    wait_until_answers(server.client, server.log)


def test_docker_ps_and_version(server: Server, engine: FakeEngine) -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker command")
    row = {
        "Id": "f" * 64,
        "Names": ["/web"],
        "Image": "busybox",
        "ImageID": "sha256:" + "0" * 64,
        "Command": "top",
        "Created": 1,
        "Ports": [],
        "Labels": {},
        "State": "running",
        "Status": "Up 2 seconds",
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {}},
        "Mounts": [],
    }
    version = {
        "Version": "29.7.2",
        "ApiVersion": "1.56",
        "MinAPIVersion": "1.24",
        "Os": "linux",
        "Arch": "amd64",
    }
    engine.on(verbs.LIST, [row])
    engine.on(system_verbs.VERSION, msgspec.json.encode(version))
    engine.start()
    for host in (f"unix://{server.client.path}", f"tcp://127.0.0.1:{server.port}"):

        def run(*arguments: str, host: str = host) -> str:
            command = [docker, "-H", host, *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

        assert run("ps", "--format", "{{.Names}} {{.Status}}") == "web Up 2 seconds\n"
        assert run("version", "--format", "{{.Server.Version}}") == "29.7.2\n"


def test_attach_by_websocket(server: Server, engine: FakeEngine, tmp_path: Path) -> None:
    def shout(sock: socket.socket, envelope: HandoverEnvelope) -> None:
        sock.sendall(sock.recv(100).upper())

    shim = FakeShim(tmp_path / "shim.sock", shout)
    engine.on(verbs.ATTACH, verbs.Stream(Handover(str(shim.path), b""), False))
    engine.start()
    ws = websocket.create_connection(
        f"ws://127.0.0.1:{server.port}/v1.50/containers/c/attach/ws?stream=1&stdin=1&stdout=1", timeout=60
    )
    ws.send("hello")
    assert ws.recv() == b"HELLO"
    opcode, reason = ws.recv_data()
    assert (opcode, reason) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xe8")
    assert ws.sock.recv(1) == b""  # it need not say goodbye to learn that this is the end
    args = engine.calls[0][1]
    assert (args.stream, args.stdin, args.multiplexed) == (True, True, False)
    shim.close()


def test_websocket_of_an_unknown_container(server: Server, engine: FakeEngine) -> None:
    engine.on(verbs.ATTACH, NotFound("No such container: c"))
    engine.start()
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        websocket.create_connection(f"ws://127.0.0.1:{server.port}/containers/c/attach/ws", timeout=60)
    assert (refusal.value.status_code, refusal.value.status_message) == (404, "Not Found")
    assert b"No such container: c" in refusal.value.resp_body


def test_a_stale_socket_is_replaced_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "docker.sock"
    first = listeners.open_all([f"unix://{path}"], "")[0]
    first.close()
    second = listeners.open_all([f"unix://{path}"], str(os.getgid()))[0]
    assert path.stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    second.close()


@pytest.mark.parametrize(
    ("host", "group", "text"),
    [
        ("tcp://0.0.0.0:2376", "", "TLS"),
        ("http://x", "", "invalid protocol: http"),
        ("/run/x.sock", "", "must be unix://, tcp:// or fd://"),
        ("fd://", "", "no sockets found via socket activation"),
        ("tcp://127.0.0.1:x", "", "invalid bind address format"),
        ("unix://{tmp}/s", "nosuchgroup", "group nosuchgroup not found"),
        ("unix://{tmp}/file", "", "is not a socket"),
    ],
)
def test_listeners_that_are_refused(tmp_path: Path, host: str, group: str, text: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(listeners.ListenError, match=text):
        listeners.open_all([host.format(tmp=tmp_path)], group)


def test_only_the_default_group_may_be_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.suppress(KeyError):
        import grp

        grp.getgrnam("docker")
        pytest.skip("there is a group docker")
    listeners.open_all([f"unix://{tmp_path}/s"], "docker")[0].close()
    assert "group docker not found" in caplog.text


def test_plain_tcp_to_the_world_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    listeners.open_all(["tcp://0.0.0.0:0"], "")[0].close()
    assert "gives root access on this machine" in caplog.text


def test_sockets_passed_by_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as passed:
        passed.bind(("127.0.0.1", 0))
        passed.listen()
        monkeypatch.setattr(listeners, "LISTEN_FDS_START", os.dup(passed.fileno()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        found = listeners.open_all(["fd://"], "")[0]
        assert found.getsockname() == passed.getsockname()
        found.close()


def test_the_arbiters_death_ends_a_worker_that_has_just_been_forked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.apiserver.main", "--exec-root", str(tmp_path)]
    with subprocess.Popen([*command, "--host", f"unix://{tmp_path}/docker.sock"]) as arbiter:
        children = Path(f"/proc/{arbiter.pid}/task/{arbiter.pid}/children")
        wait_until(lambda: children.read_text() != "", "a worker is forked", poll=0.001)
        worker = int(children.read_text())
        arbiter.kill()
    wait_until(lambda: not _alive(worker), "the worker has ended")


def test_the_arbiters_death_ends_the_worker(tmp_path: Path) -> None:
    from tests.unit.apiserver.conftest import start_server

    with start_server(tmp_path) as server:
        worker = server.worker
        server.process.kill()
        server.process.wait()
        for _ in range(2000):
            if not _alive(worker):
                break
            time.sleep(0.05)
        assert not _alive(worker)
    assert threading.active_count() < 50
