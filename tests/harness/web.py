"""A web server on loopback for one test: files, answers made up, and repositories by git's own backend."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_HEADERS_END = b"\r\n\r\n"


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


@dataclass
class Site:
    """``pages`` by path; below ``/git/`` are the repositories of ``repositories``, below ``/files/`` their
    files as they are."""

    repositories: Path
    pages: dict[str, Page] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def handle(self) -> None:
        """A client may leave at any time."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/git/"):
            self._backend(path.removeprefix("/git"), query)
        elif path.startswith("/files/"):
            file = self.site.repositories / path.removeprefix("/files/")
            self._send(Page(file.read_bytes()) if file.is_file() else Page(status=404))
        else:
            self._send(self.site.pages.get(path, Page(b"nothing here\n", "text/plain", 404)))

    def _send(self, page: Page) -> None:
        time.sleep(page.seconds)
        token = base64.b64encode(page.account.encode()).decode()
        allowed = not page.account or self.headers.get("Authorization") == f"Basic {token}"
        page = page if allowed else Page(b"who?", "text/plain", 401)
        self.send_response(page.status)
        if page.kind:
            self.send_header("Content-Type", page.kind)
        if page.location:
            self.send_header("Location", page.location)
        self.send_header("Content-Length", str(len(page.body) if page.declared < 0 else page.declared))
        self.end_headers()
        self.wfile.write(page.body)

    def _backend(self, path: str, query: str) -> None:
        """git-http-backend(1), a CGI program."""
        environment = os.environ | {
            "GIT_PROJECT_ROOT": str(self.site.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        command = ["git", "-c", "safe.directory=*", "http-backend"]
        done = subprocess.run(command, env=environment, input=body, capture_output=True)
        head, _, answer = done.stdout.partition(_HEADERS_END)
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
