"""The parts of the registry client that need no registry."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reexec.distribution import challenge, gowords
from reexec.distribution.failures import RegistryError
from reexec.distribution.model import OCI_INDEX, Credentials, Endpoint
from reexec.distribution.transport import Transport, TransportError
from services.engine.images.references import Reference, parse, parse_pulled
from services.engine.registry import manifests, platforms
from services.engine.registry.client import Manifest, Refused, translated
from services.engine.registry.credentials import decode
from services.engine.registry.endpoints import Endpoints
from services.protocol.errors import (
    ErrorKind,
    Failure,
    Forbidden,
    InvalidParameter,
    NotFound,
    SystemError_,
    Unauthorized,
)


def test_helpers_bring_the_http_library_only_when_they_run() -> None:
    """The zygote imports all of them, and every process that is forked shares what it has."""
    code = (
        "import sys, reexec.helpers.pull, reexec.helpers.push, reexec.helpers.login, reexec.helpers.search\n"
        "sys.exit(any(name in sys.modules for name in ('urllib3', 'ssl', 'http.client')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_challenges() -> None:
    header = 'Bearer realm="https://auth/token?a=b",service="reg",scope="a,b" , Basic realm="x \\"y\\""'
    bearer, basic = challenge.parse(header)
    assert (bearer.scheme, bearer.parameters["realm"]) == ("bearer", "https://auth/token?a=b")
    assert bearer.parameters["scope"] == "a,b"
    assert basic == challenge.Challenge("basic", {"realm": 'x "y"'})
    assert challenge.parse("") == []
    assert challenge.parse("Negotiate")[0].scheme == "negotiate"


@pytest.mark.parametrize(
    ("code", "status", "kind", "text"),
    [
        ("UNAUTHORIZED", 401, Unauthorized, "unauthorized: why"),
        ("DENIED", 403, Forbidden, "denied: why"),
        ("MANIFEST_UNKNOWN", 404, NotFound, "manifest unknown: why"),
        ("TOOMANYREQUESTS", 429, TransportError, "toomanyrequests: why"),
        ("", 500, TransportError, "why"),
        ("UNSUPPORTED", 415, SystemError_, "unsupported: why"),
    ],
)
def test_errors_of_registries(code: str, status: int, kind: type[Exception], text: str) -> None:
    error = RegistryError(status, code, "why").told()
    assert type(error) is kind
    assert str(error) == text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "DENIED",
            "pull access denied for secret, repository does not exist or may require 'docker login': no",
        ),
        ("MANIFEST_UNKNOWN", "manifest for secret:1 not found: no"),
        ("NAME_UNKNOWN", "repository secret not found: no"),
    ],
)
def test_refused_pulls_are_not_found(code: str, text: str) -> None:
    refused = Refused(code, Failure(ErrorKind.FORBIDDEN, "no"))
    told = translated(refused, parse("secret:1"))
    assert isinstance(told, NotFound)
    assert str(told) == text


def test_credentials() -> None:
    document = {"username": "me", "password": "s?>", "serveraddress": "x", "unknown": 1}
    header = base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
    assert decode(header) == decode(header.rstrip("=")) == Credentials("me", "s?>")
    assert decode("") == decode("e30K") == decode("not base64!") == Credentials()
    assert decode(base64.urlsafe_b64encode(b"[1]").decode()) == Credentials()


def urls(found: list[Endpoint]) -> list[str]:
    return [endpoint.url for endpoint in found]


def test_endpoints() -> None:
    endpoints = Endpoints(["http://mirror.invalid:5000/"], ["plain.invalid:80", "10.1.0.0/16"])
    hub = endpoints.of("docker.io")
    assert urls(hub) == ["http://mirror.invalid:5000", "https://registry-1.docker.io"]
    assert [endpoint.fallback for endpoint in hub] == [True, False]
    assert urls(endpoints.of("docker.io", mirrors=False)) == ["https://registry-1.docker.io"]
    (secure,) = endpoints.of("192.0.2.1:5000")
    assert secure == Endpoint("https://192.0.2.1:5000")
    for insecure in ("127.9.9.9:5000", "plain.invalid:80", "10.1.2.3", "[::1]:5000"):
        both = endpoints.of(insecure)
        assert urls(both) == [f"https://{insecure}", f"http://{insecure}"]
        assert not any(endpoint.verify for endpoint in both)


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/arm64/v8", "linux/arm64/v8"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/7", "linux/arm/v7"),
        ("armhf", "linux/arm"),
        ("linux/amd64/v1", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platforms(text: str, platform: str) -> None:
    assert str(platforms.parse(text)) == platform


@pytest.mark.parametrize("text", ["a/b/c/d", "linux//amd64", "l\u0131nux/amd64", "nosuch"])
def test_bad_platforms(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid argument$"):
        platforms.parse(text)


@pytest.mark.parametrize(
    ("wanted", "have", "fits"),
    [
        ("linux/amd64", ("linux", "amd64", ""), True),
        ("linux/amd64/v3", ("linux", "amd64", ""), True),
        ("linux/amd64", ("linux", "amd64", "v3"), False),
        ("linux/amd64", ("linux", "386", ""), True),
        ("linux/386", ("linux", "amd64", ""), False),
        ("linux/arm/v7", ("linux", "arm", "v6"), True),
        ("linux/arm/v6", ("linux", "arm", "v7"), False),
        ("linux/arm64", ("linux", "arm64", "v8"), True),
        ("linux/arm64/v8", ("linux", "arm64", ""), True),
        ("linux/arm64", ("linux", "arm", "v7"), True),
        ("linux/arm", ("linux", "arm", "v7"), True),
        ("windows/amd64", ("linux", "amd64", ""), False),
    ],
)
def test_images_that_run_on_a_platform(wanted: str, have: tuple[str, str, str], fits: bool) -> None:
    assert platforms.is_for(platforms.parse(wanted), *have) is fits


@pytest.mark.parametrize(
    ("wanted", "entries", "chosen"),
    [
        ("linux/amd64", ["linux/386", "linux/amd64"], 1),
        ("linux/amd64", ["linux/arm64", "linux/386"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], 1),
        ("linux/arm64", ["", "linux/arm/v7"], 1),
        ("linux/arm64", ["unknown/unknown", ""], 1),
        ("linux/arm64/v8", ["linux/arm64/v8"], 0),
    ],
)
def test_the_entry_of_an_index_that_serves_best(wanted: str, entries: list[str], chosen: int) -> None:
    def entry(number: int, text: str) -> dict[str, object]:
        system, _, rest = text.partition("/")
        architecture, _, variant = rest.partition("/")
        platform = {"os": system, "architecture": architecture, "variant": variant} if text else None
        return {"digest": f"sha256:{number:064}", "platform": platform}

    document = {"manifests": [entry(number, text) for number, text in enumerate(entries)]}
    index = Manifest("", OCI_INDEX, json.dumps(document).encode())
    assert manifests.choose(index, platforms.parse(wanted)).digest == f"sha256:{chosen:064}"
    with pytest.raises(NotFound, match="^no matching manifest for linux/s390x in the manifest list entries$"):
        arm = Manifest("", OCI_INDEX, json.dumps({"manifests": [entry(0, "linux/arm")]}).encode())
        manifests.choose(arm, platforms.parse("linux/s390x"))


def test_references_of_pulls() -> None:
    digest = "sha256:" + "a" * 64
    assert parse_pulled("busybox", "1") == Reference("docker.io", "library/busybox", "1")
    assert parse_pulled("busybox:1", digest) == Reference("docker.io", "library/busybox", "", digest)
    for tag in ("sha256:12", "a:b"):
        with pytest.raises(InvalidParameter, match="^invalid tag format$"):
            parse_pulled("busybox", tag)
    with pytest.raises(InvalidParameter, match="^invalid tag format$"):
        parse_pulled("busybox", "a/b")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"schemaVersion":2,"config":1,"layers":[]}', b'{"config":{"digest":"../x"},"layers":[]}'],
)
def test_manifests_that_are_none(data: bytes) -> None:
    with pytest.raises((SystemError_, InvalidParameter)):
        manifests.image(Manifest("sha256:0", "", data), "x")


def test_old_manifests_are_refused_by_name() -> None:
    with pytest.raises(InvalidParameter, match="schema 1 support is removed"):
        manifests.image(Manifest("sha256:0", "", b'{"schemaVersion":1}'), "x")


def test_refused_connection_in_the_words_of_go() -> None:
    with pytest.raises(TransportError) as caught:
        Transport(Endpoint("http://127.0.0.1:1")).request("GET", "http://127.0.0.1:1/v2/")
    text = 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("server", "errno", "text"),
    [
        ("", socket.EAI_NONAME, "lookup x: no such host"),
        ("127.0.0.1", socket.EAI_NONAME, "lookup x on 127.0.0.1:53: no such host"),
        (
            "255.255.255.255",
            socket.EAI_AGAIN,
            "lookup x on 255.255.255.255:53: dial udp 255.255.255.255:53: connect: permission denied",
        ),
    ],
)
def test_names_without_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, errno: int, text: str
) -> None:
    (tmp_path / "resolv.conf").write_text(f"# none\nnameserver {server}\n" if server else "search x\n")
    monkeypatch.setattr(gowords, "_RESOLV_CONF", tmp_path / "resolv.conf")
    assert gowords.lookup("x", socket.gaierror(errno, "whatever")) == text


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A server of one answer per connection; yields its port and what it was sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                connection, _ = server.accept()
                with connection:
                    data = b""
                    while b"\r\n\r\n" not in data:
                        data += connection.recv(4096)
                    heard.append(data)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], heard
        thread.join(5)


def test_credentials_do_not_follow_a_redirect_elsewhere() -> None:
    done = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    with answering(done) as (other, elsewhere):
        away = f"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:{other}/x\r\nContent-Length: 0\r\n\r\n".encode()
        with answering(away) as (port, here):
            url = f"http://127.0.0.1:{port}"
            answer = Transport(Endpoint(url)).request("GET", url + "/v2/", {"Authorization": "Basic eA=="})
            assert answer.read() == b"ok"
    assert b"Basic eA==" in here[0]
    assert b"authorization" not in elsewhere[0].lower()


def test_endless_redirects_end() -> None:
    again = b"HTTP/1.1 302 x\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with answering(*[again] * 10) as (port, _):
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(SystemError_, match="stopped after 10 redirects"):
            Transport(Endpoint(url)).request("GET", url + "/v2/")


def test_plain_http_where_tls_was_expected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        url = f"https://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(TransportError, match="http: server gave HTTP response to HTTPS client$"):
            Transport(Endpoint(url, verify=False)).request("GET", url + "/v2/")
