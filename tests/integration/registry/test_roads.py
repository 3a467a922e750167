"""Redirects, stalls, lying lengths, busy servers: what a transfer does on a bad road."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reexec.distribution import transport
from reexec.distribution.model import Credentials
from services.protocol.errors import WharfError
from tests.harness.web import Request
from tests.integration.registry.conftest import Place, layer, place
from tests.integration.registry.liar import Liar, cut, digest, send
from tests.integration.registry.test_faults import nothing_left

LAYER = layer({"noise": os.urandom(400_000)})
ME = Credentials("me", "secret")
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()
#: Seconds that a client here waits for a server's next byte.
PATIENCE = 4.0
Misled = Callable[[Request], bool]


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = Liar()
    made.manifest("1", made.image(LAYER))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def elsewhere() -> Iterator[Liar]:
    """Has the layer, under the same path."""
    made = Liar()
    made.blob(LAYER)
    try:
        yield made
    finally:
        made.close()


def pulled(root: Path, liar: Liar, credentials: Credentials = ME) -> None:
    async def body() -> None:
        async with place(root) as taker:
            lines = await taker.pull(f"{liar.host}/x:1", credentials)
            assert lines[-1]["status"].startswith("Status: Downloaded newer image")

    asyncio.run(body())


def refused(root: Path, liar: Liar, text: str) -> None:
    async def body() -> None:
        async with place(root) as taker:
            taker.settings = type(taker.settings)(max_download_attempts=2)
            with pytest.raises(WharfError, match=text):
                await taker.pull(f"{liar.host}/x:1")
            nothing_left(taker)

    asyncio.run(body())


def redirected(to: str, *, when: str = "/blobs/" + digest(LAYER), status: int = 307) -> Misled:
    def misled(request: Request) -> bool:
        if when not in request.path:
            return False
        send(request, status, {"Location": to + request.path}, b"")
        return True

    return misled


def locked(request: Request) -> bool:
    """Lets only us in."""
    if request.headers.get("Authorization") == BASIC:
        return False
    send(request, 401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    return True


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_another_host_gets_no_password(liar: Liar, elsewhere: Liar, tmp_path: Path, status: int) -> None:
    away = redirected(elsewhere.url, status=status)
    liar.misled = lambda request: locked(request) or away(request)
    pulled(tmp_path, liar)
    assert elsewhere.seen == [(f"x/blobs/{digest(LAYER)}", "", "")]
    assert all(given in ("", BASIC) for _, given, _ in liar.seen)


def test_no_password_leaves_encryption(elsewhere: Liar, tmp_path: Path) -> None:
    """The same host, by plain HTTP: another port here, which is another server anyway."""
    liar = Liar(tmp_path)
    try:
        liar.manifest("1", liar.image(LAYER))
        away = redirected(elsewhere.url)
        liar.misled = lambda request: locked(request) or away(request)
        pulled(tmp_path / "a", liar)
        assert [given for _, given, _ in elsewhere.seen] == [""]
    finally:
        liar.close()


def test_redirects_without_end(liar: Liar, tmp_path: Path) -> None:
    liar.misled = redirected("")
    refused(tmp_path, liar, '^Get "http://.*/blobs/sha256:.*": stopped after 10 redirects$')
    assert len([path for path, _, _ in liar.seen if digest(LAYER) in path]) == 10


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x"])
def test_redirects_to_other_schemes(liar: Liar, tmp_path: Path, to: str) -> None:
    liar.misled = redirected(to)
    scheme = to.partition(":")[0]
    refused(tmp_path, liar, f'unsupported protocol scheme "{scheme}"$')


def spoiled(liar: Liar, times: int, how: Misled) -> None:
    """The first *times* requests for the layer."""
    left = [times]

    def misled(request: Request) -> bool:
        if digest(LAYER) not in request.path or not left[0]:
            return False
        left[0] -= 1
        return how(request)

    liar.misled = misled


def begun(request: Request, length: int, data: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(length))
    request.end_headers()
    request.wfile.write(data)


def too_long(request: Request) -> bool:
    """More is announced than there is."""
    begun(request, len(LAYER) + 1000, LAYER[:-5000])
    cut(request)
    return True


def too_short(request: Request) -> bool:
    """Less is announced, and sent."""
    begun(request, 1000, LAYER[:1000])
    return True


def stalled(request: Request) -> bool:
    begun(request, len(LAYER), LAYER[:100_000])
    request.connection.settimeout(90)
    request.connection.recv(1)  # until the client has given up
    cut(request)
    return True


class Dripping:
    """Slow, but never silent for as long as a read may take, though longer in all.

    On a busy host we may be silent for longer all the same: then the client may come again (``excuses``).
    """

    def __init__(self) -> None:
        self.excuses = 0
        self._one_at_a_time = threading.Lock()
        self._done = False
        self._before = 0.0

    def __call__(self, request: Request) -> bool:
        if digest(LAYER) not in request.path:
            self._before = time.monotonic()
            return False
        with self._one_at_a_time:
            if not self._done:
                self._done = self._drip(request) < PATIENCE
                self.excuses += not self._done
                return True
        return False

    def _drip(self, request: Request) -> float:
        """The longest silence in seconds, as long as it may have seemed to the client."""
        longest = 0.0
        with contextlib.suppress(OSError):
            begun(request, len(LAYER), b"")
            for at in range(0, len(LAYER), 20_000):
                now = time.monotonic()
                request.wfile.write(LAYER[at : at + 20_000])
                longest = max(longest, time.monotonic() - self._before)
                self._before = now
                time.sleep(PATIENCE / 18)
        return max(longest, time.monotonic() - self._before)


def busy(request: Request) -> bool:
    send(
        request,
        429,
        {"Retry-After": "1"},
        b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}',
    )
    return True


def closed(request: Request) -> bool:
    cut(request)
    return True


def rubbish(request: Request) -> bool:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    cut(request)
    return True


def impatient_for_layers(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that begin after the configuration was asked for: what comes before is asked for but once."""
    misled = liar.misled

    def noticed(request: Request) -> bool:
        if "/blobs/" in request.path and digest(LAYER) not in request.path:
            monkeypatch.setattr(transport, "READ_TIMEOUT", PATIENCE)
        return misled(request)

    liar.misled = noticed


@pytest.mark.parametrize("how", [too_long, too_short, stalled, busy, closed, rubbish])
def test_another_attempt_helps(
    liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Misled
) -> None:
    spoiled(liar, 2, how)
    if how is stalled:
        impatient_for_layers(liar, monkeypatch)
    pulled(tmp_path, liar)


def test_slow_is_not_dead(liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liar.misled = dripping = Dripping()
    impatient_for_layers(liar, monkeypatch)
    pulled(tmp_path, liar)
    assert len([path for path, _, _ in liar.seen if digest(LAYER) in path]) <= 1 + dripping.excuses


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (too_long, "^unexpected EOF$"),
        (stalled, "^i/o timeout$"),
        (busy, "^toomanyrequests: slow down$"),
        (closed, '^Get "http://.*/blobs/sha256:.*": EOF$'),
    ],
)
def test_attempts_end(
    liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Misled, text: str
) -> None:
    spoiled(liar, 1000, how)
    if how is too_long:
        liar.misled = cut_at_once(liar)
    if how is stalled:
        impatient_for_layers(liar, monkeypatch)
    refused(tmp_path, liar, text)


def cut_at_once(liar: Liar) -> Misled:
    """Announces the layer and ends before it, whatever part is asked for."""

    def misled(request: Request) -> bool:
        if digest(LAYER) not in request.path:
            return False
        begun(request, len(LAYER), b"")
        cut(request)
        return True

    return misled


def another_part(request: Request) -> bool:
    """Answers a Range with some other range."""
    if not request.headers.get("Range"):
        begun(request, len(LAYER), LAYER[:100_000])
        cut(request)
        return True
    data = LAYER[50_000:]
    content = f"bytes 50000-{len(LAYER) - 1}/{len(LAYER)}"
    send(request, 206, {"Content-Range": content}, data)
    return True


def no_parts(request: Request) -> bool:
    """Has never heard of Range."""
    if not request.headers.get("Range"):
        begun(request, len(LAYER), LAYER[:100_000])
        cut(request)
        return True
    send(request, 200, {}, LAYER)
    return True


def nothing_behind(request: Request) -> bool:
    if not request.headers.get("Range"):
        begun(request, len(LAYER), LAYER[:100_000])
        cut(request)
        return True
    send(request, 416, {}, b"")
    return True


@pytest.mark.parametrize(("how", "times"), [(another_part, 2), (no_parts, 100), (nothing_behind, 2)])
def test_servers_that_resume_wrongly(liar: Liar, tmp_path: Path, how: Misled, times: int) -> None:
    spoiled(liar, times, how)
    pulled(tmp_path, liar)


def test_manifest_of_a_busy_server(liar: Liar, tmp_path: Path) -> None:
    async def body(made: Place) -> None:
        for status, text in (
            (500, "^received unexpected HTTP status: 500 Internal Server Error$"),
            (503, "^received unexpected HTTP status: 503 Service Unavailable$"),
            (429, "^toomanyrequests: too many requests$"),
        ):
            liar.answers["x/manifests/1"] = (status, {"Retry-After": "1"}, b"")
            with pytest.raises(WharfError, match=text):
                await made.pull(f"{liar.host}/x:1")
            nothing_left(made)

    async def run() -> None:
        async with place(tmp_path) as made:
            await body(made)

    asyncio.run(run())
