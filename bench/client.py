"""A small keep-alive client of the API: the same for both daemons, and nearly free."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from tests.harness.readiness import UnixConnection
from tests.harness.streams import Stream


class Client:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = UnixConnection(path, timeout=600)

    def call(self, method: str, url: str, body: Any = None) -> Any:
        """The decoded answer. Raises ``RuntimeError`` with the daemon's message."""
        data = None if body is None else json.dumps(body)
        self._connection.request(method, url, data, {"Content-Type": "application/json"} if data else {})
        response = self._connection.getresponse()
        text = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {url}: {response.status} {text.decode(errors='replace')}")
        if text and response.headers.get_content_type() == "application/json":
            return json.loads(text)
        return text

    def get(self, url: str) -> Any:
        return self.call("GET", url)

    def create(self, *command: str, name: str = "", **host_config: Any) -> str:
        body = {"Image": "busybox", "Cmd": list(command), "HostConfig": host_config}
        identity: str = self.call("POST", f"/containers/create{f'?name={name}' if name else ''}", body)["Id"]
        return identity

    def start(self, identity: str) -> None:
        self.call("POST", f"/containers/{identity}/start")

    def wait(self, identity: str) -> int:
        status: int = self.call("POST", f"/containers/{identity}/wait")["StatusCode"]
        return status

    def remove(self, identity: str, *, force: bool = False) -> None:
        self.call("DELETE", f"/containers/{identity}{'?force=1' if force else ''}")

    def remove_all(self) -> None:
        for item in self.get("/containers/json?all=1"):
            self.remove(item["Id"], force=True)

    def run_exec(self, identity: str, *command: str) -> None:
        """An exec from its creation to the end of its output."""
        body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
        exec_id = self.call("POST", f"/containers/{identity}/exec", body)["Id"]
        stream = Stream(self._path, "POST", f"/exec/{exec_id}/start", {"Detach": False}, upgrade=True)
        stream.rest()
        stream.close()

    def load(self, archive: bytes) -> None:
        self._connection.request(
            "POST", "/images/load?quiet=1", archive, {"Content-Type": "application/x-tar"}
        )
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200 or b'"error"' in text:
            raise RuntimeError(f"image load: {text.decode(errors='replace')}")

    def attach(self, identity: str) -> socket.socket:
        """The connection of an attached client, after its head; output frames follow."""
        url = f"/containers/{identity}/attach?stream=1&stdout=1&stderr=1"
        return Stream(self._path, "POST", url, upgrade=True, timeout=600).socket

    def close(self) -> None:
        self._connection.close()
