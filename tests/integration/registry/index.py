"""A search index for tests (the protocol from before distribution)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.harness.web import Request, WebServer

RESULTS = [
    {
        "name": "busybox",
        "description": "Small.",
        "star_count": 3000,
        "is_official": True,
        "is_automated": False,
    },
    {"name": "me/busybox", "description": "", "star_count": 7, "is_official": False, "is_automated": True},
    {"name": "it/busybox", "description": "", "star_count": 0, "is_official": False, "is_automated": False},
]


class Index(WebServer):
    """``queries`` has what was searched for, ``authorizations`` the header of each search."""

    protocol = "HTTP/1.0"
    methods = ("GET", "POST")

    def __init__(self, certificates: Path | None = None) -> None:
        self.queries: list[dict[str, list[str]]] = []
        self.authorizations: list[str] = []
        self.status = 200
        self.body: bytes | None = None
        super().__init__(certificates)

    def answer(self, request: Request) -> None:
        if request.command == "POST":
            request.rfile.read(int(request.headers["Content-Length"]))
        parts = urlsplit(request.path)
        if parts.path == "/v1/search":
            self.queries.append(parse_qs(parts.query))
            self.authorizations.append(request.headers.get("Authorization", ""))
            self._send(request, self.status, {"results": RESULTS, "num_results": len(RESULTS)})
        elif parts.path == "/v1/_ping":
            self._send(request, 404, {})
        elif parts.path == "/v2/" and request.headers.get("Authorization") != "Bearer t":
            challenge = f'Bearer realm="http://{self.host}/token",service="index"'
            self._send(request, 401, {}, challenge)
        elif parts.path == "/token":
            self._send(request, 200, {"token": "t"})
        else:
            self._send(request, 200, {})

    def _send(self, request: Request, status: int, document: Any, challenge: str = "") -> None:
        data = json.dumps(document).encode() if self.body is None else self.body
        request.send_response(status)
        if challenge:
            request.send_header("WWW-Authenticate", challenge)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


__all__ = ["RESULTS", "Index"]
