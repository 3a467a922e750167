"""Registries for tests: Debian's docker-registry on loopback, and a proxy before it that misbehaves."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.readiness import wait_until
from tests.harness.web import Request, WebServer

BINARY = shutil.which("docker-registry")
#: An address for documentation (RFC 5737): reached through a proxy only, and secure, unlike loopback.
ELSEWHERE = "192.0.2.10"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
#: ``me`` and ``secret`` as htpasswd has them.
HTPASSWD = "me:$2b$05$ifrpu4uu4yu9Ro3sKdvt2uxuZZd2V08kwzXnAKxXrmgcB9McsLlu6\n"
#: What the registry logs once it has got a port.
_LISTENS = re.compile(r'"listening on 127\.0\.0\.1:([0-9]+)[",]')


class Registry:
    """``docker-registry`` with its files below *root*."""

    def __init__(
        self, root: Path, *, password: bool = False, tls: bool = False, client_authority: Path | None = None
    ) -> None:
        self.root = root
        http_: dict[str, Any] = {"addr": "127.0.0.1:0"}
        if tls:
            make_certificate(root)
            certificate: dict[str, Any] = {"certificate": str(root / "tls.crt"), "key": str(root / "tls.key")}
            if client_authority:
                certificate["clientcas"] = [str(client_authority)]
            http_["tls"] = certificate
        document: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(root / "data")}, "delete": {"enabled": True}},
            "http": http_,
        }
        if password:
            (root / "htpasswd").write_text(HTPASSWD)
            document["auth"] = {"htpasswd": {"realm": "test", "path": str(root / "htpasswd")}}
        self.port = self._start(document)
        self.host = f"127.0.0.1:{self.port}"

    def _start(self, document: dict[str, Any]) -> int:
        """The port that it has got and listens on."""
        configuration, path = self.root / "config.yml", self.root / "registry.log"
        configuration.write_text(json.dumps(document))
        with path.open("wb") as log:
            self.process = subprocess.Popen(
                [str(BINARY), "serve", str(configuration)], stdout=log, stderr=log
            )

        def listens() -> re.Match[str] | None:
            assert self.process.poll() is None, path.read_text()
            return _LISTENS.search(path.read_text())

        try:
            wait_until(lambda: listens() is not None, "the registry listens")
        except BaseException:
            self.close()
            raise
        found = listens()
        assert found is not None
        return int(found[1])

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def blob(self, digest: str) -> Path:
        value = digest.removeprefix("sha256:")
        base = self.root / "data/docker/registry/v2/blobs/sha256"
        return base / value[:2] / value / "data"

    def manifest(self, name: str, tag: str = "latest") -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"/v2/{name}/manifests/{tag}", headers={"Accept": MANIFEST})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        assert answer.status == 200, data
        found: dict[str, Any] = json.loads(data)
        return found

    def put_manifest(self, name: str, tag: str, document: Any, media_type: str = MANIFEST) -> str:
        data = json.dumps(document).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("PUT", f"/v2/{name}/manifests/{tag}", data, {"Content-Type": media_type})
        answer = connection.getresponse()
        told = answer.read()
        connection.close()
        assert answer.status == 201, told
        return "sha256:" + hashlib.sha256(data).hexdigest()


def make_certificate(root: Path, name: str = "tls", names: str = f"IP:127.0.0.1,IP:{ELSEWHERE}") -> None:
    """A self-signed certificate ``<name>.crt`` with ``<name>.key`` for *names*."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=registry", "-addext", f"subjectAltName={names}",
            "-keyout", str(root / f"{name}.key"), "-out", str(root / f"{name}.crt"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip


class Fault:
    """What happens to one request: see :class:`Proxy`."""

    def __init__(self, *, status: int = 0, cut: int = -1, body: bytes | None = None) -> None:
        self.status = status
        self.cut = cut
        self.body = body


class Proxy(WebServer):
    """Passes requests on to a registry; ``fault(method, path, headers)`` may spoil one.

    ``status`` answers with that status, ``cut`` closes the connection after so many bytes of the body,
    ``body`` is sent in place of the real one. ``seen`` has (method, path, Range, Authorization).
    """

    methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.seen: list[tuple[str, str, str, str]] = []
        self.fault: Callable[[str, str], Fault | None] = lambda method, path: None
        super().__init__()

    def answer(self, request: Request) -> None:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        self.seen.append(
            (request.command, request.path, headers.get("Range", ""), headers.get("Authorization", ""))
        )
        body = request.rfile.read(int(headers.get("Content-Length", 0)))
        fault = self.fault(request.command, request.path)
        if fault and fault.status:
            request.send_response(fault.status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        connection = http.client.HTTPConnection("127.0.0.1", self._registry.port, timeout=60)
        connection.request(request.command, request.path, body or None, {**headers, "Host": self.host})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if fault and fault.body is not None:
            data = fault.body
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(data))
        request.send_header("Content-Length", length or "0")
        request.end_headers()
        if request.command == "HEAD":
            return
        if fault and fault.cut >= 0:
            request.wfile.write(data[: fault.cut])
            request.wfile.flush()
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        request.wfile.write(data)


__all__ = ["BINARY", "Fault", "Proxy", "Registry"]
