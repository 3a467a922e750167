"""Waiting for a daemon: until it answers, or its process ends."""

from __future__ import annotations

import http.client
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str | Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def answers(path: str | Path, url: str = "/_ping", timeout: float = 30) -> bool:
    """True when a GET of *url* is answered by 200."""
    connection = UnixConnection(path, timeout)
    try:
        connection.request("GET", url)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def remove_tree(path: Path) -> None:
    """Although somebody who is just ending may still write or remove there."""

    def is_gone() -> bool:
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    wait_until(is_gone, f"{path} is removed")


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 90, poll: float = 0.02) -> None:
    """Raises ``TimeoutError`` that names *what*. *timeout* is for what never comes, not what is slow."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(poll)
