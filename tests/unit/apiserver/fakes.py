"""An engine and a shim for the API server's tests: real sockets, canned answers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from services.engine.descriptors import Descriptors
from services.engine.events import Events
from services.engine.rpc import Context, Router
from services.protocol import fdpass
from services.protocol.errors import Failure
from services.protocol.paths import ExecRoot
from services.protocol.verbs import StreamVerb, Verb
from services.protocol.verbs import system as system_verbs


class FakeEngine:
    """The engine's own ROUTER and PUB in a thread, with handlers given by the test."""

    def __init__(self, exec_root: Path) -> None:
        self.root = ExecRoot(exec_root)
        self._handlers: dict[str, tuple[Any, Any]] = {}
        self.calls: list[tuple[str, Any, int]] = []
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self.events: Events | None = None

    def on(self, verb: Verb[Any, Any], answer: Any) -> None:
        """*answer* is a value, an exception, or an async function of (args, context)."""

        async def handler(args: Any, context: Context) -> Any:
            self.calls.append((verb.name, args, context.attempt))
            if callable(answer):
                return await answer(args, context)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self._handlers[verb.name] = (verb, handler)

    def on_stream(self, verb: StreamVerb[Any, Any], answer: Callable[..., AsyncIterator[Any]]) -> None:
        async def handler(args: Any, context: Context) -> AsyncIterator[Any]:
            self.calls.append((verb.name, args, context.attempt))
            async for item in answer(args, context):
                yield item

        self._handlers[verb.name] = (verb, handler)

    def start(self) -> None:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(ready),))
        self._thread.start()
        assert ready.wait(60)

    async def _run(self, ready: threading.Event) -> None:
        descriptors = Descriptors(self.root)
        router = Router(self.root, descriptors.take)
        self.events = Events(router.publish)
        router.add(system_verbs.EVENTS, self._history)
        for verb, handler in self._handlers.values():
            if isinstance(verb, Verb):
                router.add(verb, handler)
            else:
                router.add_stream(verb, handler)
        descriptors.listen()
        router.bind()
        self._stop = asyncio.Event()
        serving = asyncio.create_task(router.serve())
        ready.set()
        await self._stop.wait()
        serving.cancel()
        descriptors.close()
        await router.close()

    async def _history(self, args: system_verbs.HistoryArgs, _: Context) -> system_verbs.History:
        assert self.events is not None
        return self.events.history(args.since, args.until)

    def run(self, work: Callable[[], Any]) -> None:
        """Call *work* in the engine's loop."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (work(), done.set()))
        assert done.wait(60)

    def publish(self, action: str, name: str, kind: str = "container", **attributes: str) -> None:
        events = self.events
        assert events is not None
        self.run(lambda: events.publish(kind, action, name * 8, {"name": name, **attributes}))

    def stop(self) -> None:
        if self._thread is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
            assert not self._thread.is_alive()
            self._thread = None


class FakeShim:
    """Takes connections on a SEQPACKET socket; *serve* runs with each in a thread of its own."""

    def __init__(self, path: Path, serve: Callable[[socket.socket, fdpass.HandoverEnvelope], None]) -> None:
        self.path = path
        self.envelopes: list[fdpass.HandoverEnvelope] = []
        self.refuse: Failure | None = None
        self._serve = serve
        self._listener = fdpass.listen(path)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                control, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=(control,), daemon=True).start()

    def _take(self, control: socket.socket) -> None:
        with control:
            envelope, fds = fdpass.receive(control, fdpass.HandoverEnvelope)
            self.envelopes.append(envelope)
            if self.refuse is not None:
                os.close(fds[0])
                fdpass.send(control, fdpass.HandoverAck(self.refuse))
                return
            client = socket.socket(fileno=fds[0])
            client.sendall(envelope.head)
            fdpass.send(control, fdpass.HandoverAck())
            with client:
                self._serve(client, envelope)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Client:
    """Raw and plain HTTP to the API server."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(60)
        sock.connect(str(self.path))
        return sock

    def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send *data*, return everything until the server closes."""
        with self.connect() as sock:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("docker", timeout=60)
        connection.sock = self.connect()
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json"} if data is not None else {}
        connection.request(method, path, data, {**given, **(headers or {})})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if text and (response.getheader("Content-Type") or "").startswith("application/json"):
            return response.status, _documents(text), response
        return response.status, text, response


def _documents(text: bytes) -> Any:
    """One JSON document, or the list of a stream of them."""
    found = [json.loads(line) for line in text.splitlines()]
    return found[0] if len(found) == 1 else found


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def read_head(sock: socket.socket) -> tuple[str, dict[str, str]]:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, data
        data += byte
    lines = data.decode().split("\r\n")
    return lines[0], dict(line.lower().split(": ", 1) for line in lines[1:] if line)


Answer = Callable[[Any, Context], Awaitable[Any]]
