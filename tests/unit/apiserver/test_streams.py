"""Connections handed over, streams relayed, followers by the thousand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.protocol.api.containers import WaitReply
from services.protocol.errors import Conflict, ErrorKind, Failure, NotFound
from services.protocol.fdpass import Handover, HandoverEnvelope
from services.protocol.verbs import Nothing
from services.protocol.verbs import containers as verbs
from services.protocol.verbs import execs as exec_verbs
from services.protocol.verbs import images as image_verbs
from tests.unit.apiserver.conftest import Server
from tests.unit.apiserver.fakes import Client, FakeEngine, FakeShim, read_all, read_head

Serve = Callable[[socket.socket, HandoverEnvelope], None]


def echo(client: socket.socket, envelope: HandoverEnvelope) -> None:
    """Everything the client sends, behind what it had sent already; then "bye"."""
    data = envelope.pending
    while chunk := client.recv(4096):
        data += chunk
    client.sendall(data + b"bye")


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Callable[[Serve], FakeShim]]:
    with contextlib.ExitStack() as stack:

        def make(serve: Serve) -> FakeShim:
            fake = FakeShim(tmp_path / "shim.sock", serve)
            stack.callback(fake.close)
            return fake

        yield make


def attach_request(path: str, *, upgrade: bool = True) -> bytes:
    wish = b"Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else b""
    return b"POST " + path.encode() + b" HTTP/1.1\r\nHost: d\r\n" + wish + b"Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("version", "tty", "content_type"),
    [
        ("1.50", False, "application/vnd.docker.multiplexed-stream"),
        ("1.50", True, "application/vnd.docker.raw-stream"),
        ("1.41", False, "application/vnd.docker.raw-stream"),
    ],
)
def test_attach_hands_the_connection_over(
    client: Client, engine: FakeEngine, shim: Any, version: str, tty: bool, content_type: str
) -> None:
    owner = shim(echo)
    engine.on(verbs.ATTACH, verbs.Stream(Handover(str(owner.path), b"to the shim"), tty))
    engine.start()
    with client.connect() as sock:
        sock.sendall(attach_request(f"/v{version}/containers/c/attach?stream=1&stdin=1") + b"early ")
        status, fields = read_head(sock)
        assert status == "HTTP/1.1 101 UPGRADED"
        assert (fields["content-type"], fields["upgrade"]) == (content_type, "tcp")
        sock.sendall(b"late ")
        sock.shutdown(socket.SHUT_WR)  # half-close of stdin: output goes on
        assert read_all(sock) == b"early late bye"
    assert owner.envelopes[0].payload == b"to the shim"


def test_a_half_close_before_the_hand_over_is_not_lost(client: Client, engine: FakeEngine, shim: Any) -> None:
    """``printf x | docker attach`` may have sent all and closed while the engine still thinks."""
    owner = shim(echo)

    async def attach(args: verbs.AttachArgs, _: object) -> verbs.Stream:
        await asyncio.sleep(0.3)
        return verbs.Stream(Handover(str(owner.path), b""), False)

    engine.on(verbs.ATTACH, attach)
    engine.start()
    with client.connect() as sock:
        sock.sendall(attach_request("/containers/c/attach?stream=1&stdin=1") + b"all")
        sock.shutdown(socket.SHUT_WR)
        assert read_head(sock)[0] == "HTTP/1.1 101 UPGRADED"
        assert read_all(sock) == b"allbye"


def test_attach_over_tcp_and_without_upgrade(server: Server, engine: FakeEngine, shim: Any) -> None:
    owner = shim(echo)
    engine.on(verbs.ATTACH, verbs.Stream(Handover(str(owner.path), b""), False))
    engine.start()
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(attach_request("/containers/c/attach?stream=1", upgrade=False))
        status, fields = read_head(sock)
        assert status == "HTTP/1.1 200 OK"
        assert fields["content-type"] == "application/vnd.docker.raw-stream"
        sock.sendall(b"x")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"xbye"


def test_attach_errors_are_plain_text(client: Client, engine: FakeEngine) -> None:
    engine.on(verbs.ATTACH, NotFound("No such container: c"))
    engine.start()
    with client.connect() as sock:
        sock.sendall(attach_request("/containers/c/attach?stream=1"))
        status, fields = read_head(sock)
        assert status == "HTTP/1.1 404 Not Found"
        assert fields["content-type"] == "application/vnd.docker.raw-stream"
        assert "connection" not in fields and "upgrade" not in fields
        assert sock.recv(100) == b"No such container: c\r\n"


@pytest.mark.parametrize("how", ["refused", "absent"])
def test_a_failed_hand_over_leaves_the_connection_usable(
    client: Client, engine: FakeEngine, shim: Any, tmp_path: Path, how: str
) -> None:
    owner = shim(echo)
    owner.refuse = Failure(ErrorKind.CONFLICT, "the container has gone")
    path = owner.path if how == "refused" else tmp_path / "nobody.sock"
    engine.on(exec_verbs.START, verbs.Stream(Handover(str(path), b""), False))
    engine.start()
    with client.connect() as sock:
        body = b"{}"
        sock.sendall(
            b"POST /exec/e/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n" + body
        )
        status, fields = read_head(sock)
        text = json.loads(sock.recv(int(fields["content-length"])))["message"]
        if how == "refused":
            assert (status, text) == ("HTTP/1.1 409 Conflict", "the container has gone")
        else:
            assert status == "HTTP/1.1 503 Service Unavailable" and "nobody.sock" in text
        sock.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert read_head(sock)[0] == "HTTP/1.1 200 OK"


def test_exec_start_answers_with_text_when_there_is_nothing_to_stream(
    client: Client, engine: FakeEngine
) -> None:
    text = "exec command x has already run\r\n"
    engine.on(exec_verbs.START, verbs.Stream(None, False, text))
    engine.start()
    status, data, _ = client.request("POST", "/exec/x/start", {"Detach": False})
    assert status == 200
    assert data == struct.pack(">B3xI", 1, len(text)) + text.encode()


def test_exec_detached(client: Client, engine: FakeEngine) -> None:
    engine.on(exec_verbs.START, verbs.Stream(None, False))
    engine.start()
    assert client.request("POST", "/exec/x/start", {"Detach": True})[:2] == (200, b"")


def test_logs_are_handed_over_as_chunks(client: Client, engine: FakeEngine, shim: Any) -> None:
    def serve(sock: socket.socket, envelope: HandoverEnvelope) -> None:
        assert envelope.chunked
        sock.sendall(b"5\r\nhello\r\n0\r\n\r\n")

    engine.on(verbs.LOGS, verbs.Stream(Handover(str(shim(serve).path), b""), False))
    engine.start()
    status, data, response = client.request("GET", "/containers/c/logs?stdout=1&tail=bogus&since=1.5")
    assert (status, data) == (200, b"hello")
    assert response.getheader("content-type") == "application/vnd.docker.multiplexed-stream"
    request = engine.calls[0][1].request
    assert (request.tail, request.since, request.stderr) == (-1, 1_500_000_000, False)
    assert client.request("GET", "/containers/c/logs")[0] == 400


@pytest.mark.parametrize("lost", [1, 3])
def test_a_container_whose_runs_end_before_their_shims_are_reached(
    client: Client, engine: FakeEngine, shim: Any, tmp_path: Path, lost: int
) -> None:
    """It is restarted all the time; its log and its streams are there all the same."""

    def serve(sock: socket.socket, envelope: HandoverEnvelope) -> None:
        sock.sendall(b"5\r\nhello\r\n0\r\n\r\n" if envelope.chunked else b"hello")

    gone = verbs.Stream(Handover(str(tmp_path / "gone.sock"), b""), False)
    there = verbs.Stream(Handover(str(shim(serve).path), b""), False)
    attaches, logs = ([gone] * lost + [there] for _ in range(2))

    async def attach(*_: object) -> verbs.Stream:
        return attaches.pop(0)

    async def log(*_: object) -> verbs.Stream:
        return logs.pop(0)

    engine.on(verbs.ATTACH, attach)
    engine.on(verbs.LOGS, log)
    engine.start()
    assert client.request("GET", "/containers/c/logs?stdout=1")[:2] == (200, b"hello")
    with client.connect() as sock:
        sock.sendall(attach_request("/containers/c/attach?stream=1"))
        assert read_head(sock)[0] == "HTTP/1.1 101 UPGRADED"
        assert read_all(sock) == b"hello"
    assert not logs and not attaches


def test_http_1_0_gets_no_chunks(client: Client, engine: FakeEngine, shim: Any) -> None:
    def serve(sock: socket.socket, envelope: HandoverEnvelope) -> None:
        assert not envelope.chunked
        sock.sendall(b"tar")

    engine.on(verbs.EXPORT, Handover(str(shim(serve).path), b""))
    engine.start()
    answer = client.raw(b"GET /containers/c/export HTTP/1.0\r\nHost: d\r\n\r\n")
    assert answer.endswith(b"\r\n\r\ntar") and b"Transfer-Encoding" not in answer


def test_wait_sends_its_head_when_registered(client: Client, engine: FakeEngine) -> None:
    exited = threading.Event()

    async def wait(args: verbs.WaitArgs, _: object) -> AsyncIterator[verbs.Waited]:
        yield verbs.Waited(registered=True)
        await asyncio.to_thread(exited.wait)
        yield verbs.Waited(registered=True, result=WaitReply(status_code=3))

    engine.on_stream(verbs.WAIT, wait)
    engine.start()
    with client.connect() as sock:
        sock.sendall(b"POST /containers/c/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\n\r\n")
        status, fields = read_head(sock)
        assert status == "HTTP/1.1 200 OK" and fields["transfer-encoding"] == "chunked"
        exited.set()
        data = b""
        while b'{"StatusCode":3}\n' not in data:
            data += (got := sock.recv(100))
            assert got, data


def test_a_client_that_leaves_cancels_its_request(client: Client, engine: FakeEngine) -> None:
    cancelled = threading.Event()

    async def wait(args: verbs.WaitArgs, _: object) -> AsyncIterator[verbs.Waited]:
        yield verbs.Waited(registered=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    engine.on_stream(verbs.WAIT, wait)
    engine.start()
    with client.connect() as sock:
        sock.sendall(b"POST /containers/c/wait HTTP/1.1\r\nHost: d\r\n\r\n")
        read_head(sock)
    assert cancelled.wait(60)


def _read_pipe(fds: list[int]) -> bytes:
    with open(fds[0], "rb") as pipe:
        return pipe.read()


def test_load_copies_the_body_to_the_engine(client: Client, engine: FakeEngine) -> None:
    sizes: list[int] = []

    async def load(args: image_verbs.LoadArgs, context: Any) -> AsyncIterator[bytes]:
        yield b'{"stream":"begun"}'
        sizes.append(len(await asyncio.to_thread(_read_pipe, await context.fds())))
        yield b'{"stream":"done"}'

    engine.on_stream(image_verbs.LOAD, load)
    engine.start()
    body = os.urandom(3_000_000)
    status, data, _ = client.request(
        "POST", "/images/load?quiet=1", body, {"Content-Type": "application/x-tar"}
    )
    assert (status, data) == (200, [{"stream": "begun"}, {"stream": "done"}])
    assert sizes == [len(body)]


def test_load_that_fails_before_its_first_line(client: Client, engine: FakeEngine) -> None:
    async def load(args: image_verbs.LoadArgs, context: Any) -> AsyncIterator[bytes]:
        os.close((await context.fds())[0])  # reads nothing
        raise Conflict("not a tar")
        yield b""

    engine.on_stream(image_verbs.LOAD, load)
    engine.start()
    status, document, _ = client.request("POST", "/images/load", b"x" * 1_000_000)
    assert (status, document["message"]) == (409, "not a tar")


def test_a_load_cut_off_never_ends_the_engines_pipe(client: Client, engine: FakeEngine) -> None:
    seen: list[str] = []
    reading, done = threading.Event(), threading.Event()

    async def load(args: image_verbs.LoadArgs, context: Any) -> AsyncIterator[bytes]:
        fds = await context.fds()
        try:
            reading.set()
            await asyncio.to_thread(_read_pipe, fds)
            seen.append("end of archive")
        except asyncio.CancelledError:
            pipe = select.poll()
            pipe.register(fds[0], 0)  # tells of its end alone
            seen.append("cancelled" if not pipe.poll(0) else "cancelled after the end")
            raise
        finally:
            done.set()
        yield b""

    engine.on_stream(image_verbs.LOAD, load)
    engine.start()
    with client.connect() as sock:
        sock.sendall(b"POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\nonly this")
        assert reading.wait(60)
    assert done.wait(60)
    assert seen == ["cancelled"]


def _threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def test_a_thousand_followers_share_one_process(server: Server, engine: FakeEngine) -> None:
    """Each gets its event; no thread is made for them; plain requests are answered meanwhile."""
    engine.start()
    client = server.client
    client.request("GET", "/_ping")
    threads = _threads(server.worker)
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        followers = [stack.enter_context(client.connect()) for _ in range(1000)]
        for sock in followers:
            sock.sendall(b"GET /v1.50/events?filters={%22event%22:[%22start%22]} HTTP/1.1\r\nHost: d\r\n\r\n")
        for sock in followers:
            assert read_head(sock)[0] == "HTTP/1.1 200 OK"
            selector.register(sock, selectors.EVENT_READ)
        assert client.request("GET", "/_ping")[1] == b"OK"
        engine.publish("create", "c")
        engine.publish("start", "c")
        for sock in followers:
            data = sock.recv(4096)
            assert b'"Action":"start"' in data and b'"status":"start"' in data and b"create" not in data
        assert _threads(server.worker) == threads
        assert client.request("GET", "/_ping")[1] == b"OK"


def test_events_of_the_past_end_at_until(client: Client, engine: FakeEngine) -> None:
    engine.start()
    engine.publish("create", "c", image="busybox")
    engine.publish("die", "c", exitCode="0")
    assert client.request("GET", "/v1.52/events?since=1&until=2")[:2] == (200, b"")
    until = time.time() + 0.2
    connection = client.raw(
        f"GET /v1.52/events?since=1&until={until:.3f} HTTP/1.0\r\nHost: d\r\n\r\n".encode()
    )
    events = [json.loads(line) for line in connection.partition(b"\r\n\r\n")[2].splitlines()]
    assert [event["Action"] for event in events] == ["create", "die"]
    assert "status" not in events[0] and events[0]["Actor"]["Attributes"]["image"] == "busybox"


@pytest.mark.parametrize("query", ["since=0&until={now}", "until={now}", "until=0", "since=-5&until={now}"])
def test_the_whole_past(client: Client, engine: FakeEngine, query: str) -> None:
    engine.start()
    engine.publish("create", "c", image="busybox")
    engine.publish("die", "c", exitCode="0")
    until = f"{time.time():.9f}"
    engine.publish("destroy", "c")
    path = f"/v1.52/events?{query.format(now=until)}"
    connection = client.raw(f"GET {path} HTTP/1.0\r\nHost: d\r\n\r\n".encode())
    actions = [json.loads(line)["Action"] for line in connection.partition(b"\r\n\r\n")[2].splitlines()]
    assert actions == (["create", "die"] if "now" in query else ["create", "die", "destroy"])


def test_events_of_images_made_are_for_newer_clients(client: Client, engine: FakeEngine) -> None:
    engine.start()
    engine.publish("create", "i", kind="image")
    found = [
        client.raw(f"GET /v{version}/events?until=0 HTTP/1.0\r\nHost: d\r\n\r\n".encode())
        for version in ("1.45", "1.46")
    ]
    assert [b'"Action":"create"' in one for one in found] == [False, True]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "must specify at least one of 'stdout' or 'stderr'"),
        (
            "stdout=1&since=x",
            'invalid value for "since": invalid timestamp "x": invalid seconds "x": invalid syntax',
        ),
        (
            "stderr=1&until=1.y",
            'invalid value for "until": invalid timestamp "1.y": invalid nanoseconds "y": invalid syntax',
        ),
    ],
)
def test_bad_log_queries(client: Client, query: str, text: str) -> None:
    status, document, _ = client.request("GET", f"/v1.50/containers/c/logs?{query}")
    assert (status, document["message"]) == (400, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            "since=x",
            'invalid value for \'since\': invalid timestamp "x": invalid seconds "x": invalid syntax',
        ),
        ("since=20&until=10", "`since` time (20) cannot be after `until` time (10)"),
        ("since=1&until=2&filters=bad", "invalid filter"),
    ],
)
def test_bad_event_queries(client: Client, query: str, text: str) -> None:
    status, document, _ = client.request("GET", f"/v1.50/events?{query}")
    assert (status, document["message"]) == (400, text)


def test_events_survive_a_restart_of_the_engine(client: Client, engine: FakeEngine) -> None:
    engine.start()
    with client.connect() as sock:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        read_head(sock)
        engine.publish("first", "c")
        assert b"first" in sock.recv(4096)
        engine.stop()
        engine.start()
        engine.publish("second", "c")  # before the API server is connected again
        engine.publish("third", "c")
        data = b""
        while b"third" not in data:
            data += sock.recv(4096)
        assert data.count(b"second") == 1 and data.count(b"third") == 1


def test_requests_wait_for_an_engine_and_are_repeated(client: Client, engine: FakeEngine) -> None:
    """One is in flight when the engine dies, one comes while there is none: both are answered."""
    started = threading.Event()

    async def start(args: Any, context: Any) -> Nothing:
        if context.attempt == 1 and args.ref == "inflight":
            started.set()
            await asyncio.Event().wait()
        return Nothing()

    engine.on(verbs.START, start)
    engine.start()
    results: dict[str, int] = {}

    def ask(name: str) -> None:
        results[name] = client.request("POST", f"/containers/{name}/start")[0]

    first = threading.Thread(target=ask, args=("inflight",))
    first.start()
    assert started.wait(60)
    engine.stop()
    second = threading.Thread(target=ask, args=("waiting",))
    second.start()
    engine.start()
    first.join(60)
    second.join(60)
    assert results == {"inflight": 204, "waiting": 204}
    attempts = [(args.ref, attempt) for _, args, attempt in engine.calls]
    assert [attempt for ref, attempt in attempts if ref == "inflight"] == [1, 2]
    # Its first attempt went nowhere if the API server had not yet seen that the engine is gone.
    assert [attempt for ref, attempt in attempts if ref == "waiting"] in ([1], [2])
