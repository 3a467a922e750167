"""A registry that says whatever a test wants, and a server that others may be redirected to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.harness.web import Request, WebServer
from tests.integration.registry.servers import MANIFEST, make_certificate

INDEX = "application/vnd.oci.image.index.v1+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CONFIG = "application/vnd.docker.container.image.v1+json"

Answer = tuple[int, dict[str, str], bytes]


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def described(data: bytes, media_type: str = "") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


class Liar(WebServer):
    """``answers`` has the answer of each path below ``/v2/``, or a function that makes it.

    ``misled(request)`` may answer by itself and returns True then. ``seen`` has (path, Authorization, Range).
    """

    def __init__(self, certificates: Path | None = None) -> None:
        self.answers: dict[str, Answer] = {"": (200, {}, b"{}")}
        self.misled: Callable[[Request], bool] = lambda request: False
        self.seen: list[tuple[str, str, str]] = []
        if certificates:
            make_certificate(certificates)
        super().__init__(certificates)

    # -- what it has --------------------------------------------------------------------------

    def blob(self, data: bytes, media_type: str = _LAYER, *, shown: bytes | None = None) -> dict[str, Any]:
        """A blob's descriptor; *shown* is sent in its place."""
        found = described(data, media_type)
        self.answers[f"x/blobs/{found['digest']}"] = (200, {}, data if shown is None else shown)
        return found

    def manifest(self, tag: str, document: Any, media_type: str = MANIFEST) -> dict[str, Any]:
        """A manifest under a tag and its digest; *document* may be bytes."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        found = described(data, media_type)
        answer = (200, {"Content-Type": media_type, "Docker-Content-Digest": found["digest"]}, data)
        self.answers[f"x/manifests/{tag}"] = self.answers[f"x/manifests/{found['digest']}"] = answer
        return found

    def image(self, *layers: bytes, **config: Any) -> dict[str, Any]:
        """The manifest of an honest image."""
        rootfs = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
        document = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, **config}
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.blob(json.dumps(document).encode(), _CONFIG),
            "layers": [self.blob(layer) for layer in layers],
        }

    # -- what it says -------------------------------------------------------------------------

    def answer(self, request: Request) -> None:
        with contextlib.suppress(OSError):
            self._answer(request)

    def _answer(self, request: Request) -> None:
        path = request.path.removeprefix("/v2/")
        self.seen.append((path, request.headers.get("Authorization", ""), request.headers.get("Range", "")))
        if self.misled(request):
            return
        status, headers, data = self.answers.get(path, (404, {}, b""))
        begin = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if status == 200 and begin:
            headers = {**headers, "Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
            status, data = 206, data[begin:]
        send(request, status, headers, data)


def send(request: Request, status: int, headers: dict[str, str], data: bytes) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)


def cut(request: Request) -> None:
    """End the connection as it is."""
    request.close_connection = True
    request.connection.shutdown(socket.SHUT_RDWR)


__all__ = ["INDEX", "OCI", "Liar", "cut", "described", "digest", "send"]
