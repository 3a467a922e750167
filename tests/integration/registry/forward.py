"""A forward proxy for tests: plain requests by absolute URL, and CONNECT."""

from __future__ import annotations

import base64
import contextlib
import http.client
import selectors
import socket
from urllib.parse import urlsplit

from tests.harness.web import Request, WebServer


class ForwardProxy(WebServer):
    """``routes`` sends what is meant for ``host:port`` to another port of this host.

    ``seen`` has (method, URL or ``host:port``). With ``account`` (``user:password``) others get 407.
    """

    protocol = "HTTP/1.0"
    methods = ("GET", "CONNECT")

    def __init__(self, account: str = "") -> None:
        self.routes: dict[str, int] = {}
        self.seen: list[tuple[str, str]] = []
        self.account = account
        super().__init__()
        self.address = self.host
        self.url = f"http://{account}@{self.host}" if account else self.url

    def answer(self, request: Request) -> None:
        if self._let_in(request):
            if request.command == "CONNECT":
                self._tunnel(request)
            else:
                self._forward(request)

    def _let_in(self, request: Request) -> bool:
        self.seen.append((request.command, request.path))
        wanted = "Basic " + base64.b64encode(self.account.encode()).decode()
        if not self.account or request.headers.get("Proxy-Authorization") == wanted:
            return True
        request.send_response(407)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return False

    def _forward(self, request: Request) -> None:
        parts = urlsplit(request.path)
        port = self.routes[f"{parts.hostname}:{parts.port or 80}"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {name: value for name, value in request.headers.items() if not name.startswith("Proxy-")}
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        request.send_response(answer.status)
        request.send_header("Content-Type", answer.getheader("Content-Type", ""))
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _tunnel(self, request: Request) -> None:
        port = self.routes.get(request.path)
        if port is None:
            request.send_response(403)
            request.end_headers()
            return
        with socket.create_connection(("127.0.0.1", port), 60) as other:
            request.send_response(200)
            request.end_headers()
            with contextlib.suppress(OSError):
                _join(request.connection, other)
        request.close_connection = True


def _join(one: socket.socket, other: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)


__all__ = ["ForwardProxy"]
