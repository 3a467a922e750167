"""Asking supervisord whether it is only us who are to stop, or the whole daemon.

SIGTERM to the engine alone is a restart or an upgrade: containers live on. When supervisord itself
is shutting down, the daemon ends, and containers are stopped first (unless ``--live-restore``).
http://supervisord.org/api.html (``supervisor.getState``).
"""

from __future__ import annotations

import http.client
import logging
import socket
import xmlrpc.client
from pathlib import Path

log = logging.getLogger(__name__)

#: ``statecode`` of a supervisord that runs normally.
RUNNING = 1
_TIMEOUT = 2.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return _UnixConnection(self._path)


def daemon_is_stopping(supervisor_socket: Path) -> bool:
    """True when supervisord says so, or is not there at all (the engine was started by hand).

    A supervisord that was killed leaves its socket behind: the containers are then left alone, as
    after any other crash. Blocking, at most two seconds.
    """
    if not supervisor_socket.exists():
        return True
    try:
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(str(supervisor_socket)))
        state = proxy.supervisor.getState()
    except (OSError, xmlrpc.client.Error, http.client.HTTPException) as error:
        log.warning("supervisord does not say whether it is stopping: %s", error)
        return False
    return isinstance(state, dict) and state.get("statecode") != RUNNING
