"""A search index for tests (the protocol from before distribution)."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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


class Index:
    """``queries`` has what was searched for, ``authorizations`` the header of each search."""

    def __init__(self, certificates: Path | None = None) -> None:
        self.queries: list[dict[str, list[str]]] = []
        self.authorizations: list[str] = []
        self.status = 200
        self.body: bytes | None = None
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                return

            def do_GET(self) -> None:
                index._answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                index._answer(self)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
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

    def _send(
        self, request: http.server.BaseHTTPRequestHandler, status: int, document: Any, challenge: str = ""
    ) -> None:
        data = json.dumps(document).encode() if self.body is None else self.body
        request.send_response(status)
        if challenge:
            request.send_header("WWW-Authenticate", challenge)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


__all__ = ["RESULTS", "Index"]
