"""Raw HTTP connections to the API: streams that a client library would hide."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Stream:
    """One request on a connection of its own; after the head, the connection's bytes."""

    def __init__(
        self,
        path: str | Path,
        method: str,
        url: str,
        body: Any = None,
        *,
        upgrade: bool = False,
        timeout: float = 60,
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        data = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {url} HTTP/1.1", "Host: docker", f"Content-Length: {len(data)}"]
        if data:
            head.append("Content-Type: application/json")
        if upgrade:
            head += ["Connection: Upgrade", "Upgrade: tcp"]
        self.socket.sendall("\r\n".join([*head, "", ""]).encode() + data)
        self._buffer = b""
        self.status, self.headers = self._head()

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        return int(first.split()[1]), headers

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"end of stream, {self._buffer!r} read")
        self._buffer += data

    def read(self, count: int) -> bytes:
        """Exactly *count* bytes. Raises ``EOFError``."""
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        try:
            while True:
                self._more()
        except EOFError:
            data, self._buffer = self._buffer, b""
            return data

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(stream number, bytes) of a multiplexed, upgraded stream, to its end."""
        while True:
            try:
                number, length = struct.unpack(">BxxxI", self.read(8))
            except EOFError:
                return
            yield number, self.read(length)

    def lines(self) -> Iterator[str]:
        """Lines of a multiplexed, upgraded stream's standard output."""
        pending = b""
        for number, data in self.frames():
            if number == 1:
                *whole, pending = (pending + data).split(b"\n")
                for line in whole:
                    yield line.decode()

    def close(self) -> None:
        self.socket.close()
