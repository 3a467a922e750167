"""Web servers on loopback, each for one test: what they have in common; a site of files and repositories."""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_HEADERS_END = b"\r\n\r\n"

Request = BaseHTTPRequestHandler


class WebServer:
    """Serves from its creation until :meth:`close`, each connection in a thread of its own; no log.

    With *certificates* (a directory with ``tls.crt`` and ``tls.key``) it speaks TLS.
    """

    #: With 1.1 connections are kept.
    protocol = "HTTP/1.1"
    methods: tuple[str, ...] = ("GET", "HEAD")

    def __init__(self, certificates: Path | None = None) -> None:
        answers = {f"do_{method}": lambda request: self.answer(request) for method in self.methods}
        handler = type("Handler", (_Quiet,), {"protocol_version": self.protocol, **answers})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if certificates else 'http'}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request: Request) -> None:
        """One request; called in its connection's thread."""
        raise NotImplementedError

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Quiet(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def handle(self) -> None:
        """A client may leave at any time."""
        with contextlib.suppress(ConnectionError):
            super().handle()


@dataclass
class Page:
    """``declared``: the length that is told, when it is a lie. ``seconds`` of silence come first.
    ``account``: who asks must be ``user:password``."""

    body: bytes = b""
    kind: str = ""
    status: int = 200
    location: str = ""
    declared: int = -1
    seconds: float = 0
    account: str = ""


class Site(WebServer):
    """``pages`` by path; below ``/git/`` are the repositories of ``repositories``, below ``/files/`` their
    files as they are."""

    protocol = "HTTP/1.0"
    methods = ("GET", "POST")

    def __init__(self, repositories: Path) -> None:
        self.repositories = repositories
        self.pages: dict[str, Page] = {}
        super().__init__()

    def answer(self, request: Request) -> None:
        path, _, query = request.path.partition("?")
        if path.startswith("/git/"):
            self._backend(request, path.removeprefix("/git"), query)
        elif path.startswith("/files/"):
            file = self.repositories / path.removeprefix("/files/")
            self._send(request, Page(file.read_bytes()) if file.is_file() else Page(status=404))
        else:
            self._send(request, self.pages.get(path, Page(b"nothing here\n", "text/plain", 404)))

    @staticmethod
    def _send(request: Request, page: Page) -> None:
        time.sleep(page.seconds)
        token = base64.b64encode(page.account.encode()).decode()
        allowed = not page.account or request.headers.get("Authorization") == f"Basic {token}"
        page = page if allowed else Page(b"who?", "text/plain", 401)
        request.send_response(page.status)
        if page.kind:
            request.send_header("Content-Type", page.kind)
        if page.location:
            request.send_header("Location", page.location)
        request.send_header("Content-Length", str(len(page.body) if page.declared < 0 else page.declared))
        request.end_headers()
        request.wfile.write(page.body)

    def _backend(self, request: Request, path: str, query: str) -> None:
        """git-http-backend(1), a CGI program."""
        environment = os.environ | {
            "GIT_PROJECT_ROOT": str(self.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        }
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        command = ["git", "-c", "safe.directory=*", "http-backend"]
        done = subprocess.run(command, env=environment, input=body, capture_output=True)
        head, _, answer = done.stdout.partition(_HEADERS_END)
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        request.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)
