"""Asking supervisord whether it is only us who are to stop, or the whole daemon.

SIGTERM to the engine alone is a restart or an upgrade: containers live on. When supervisord itself
is shutting down, the daemon ends, and containers are stopped first (unless ``--live-restore``).
http://supervisord.org/api.html (``supervisor.getState``); supervisord names its socket in the
environment of its children (http://supervisord.org/subprocess.html).
"""

from __future__ import annotations

import http.client
import logging
import os
import socket
import xmlrpc.client

log = logging.getLogger(__name__)

#: ``statecode`` of a supervisord that runs normally.
RUNNING = 1
#: ``Faults.SHUTDOWN_STATE`` of supervisor.xmlrpc.
SHUTDOWN_STATE = 6
#: Seconds; supervisord has one thread, and is busy when all stops.
_TIMEOUT = 10.0


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


def daemon_is_stopping() -> bool:
    """True when supervisord says so, or did not start us (the engine was started by hand).

    A supervisord that was killed leaves its socket behind: the containers are then left alone, as
    after any other crash. Blocking, for a bounded time.
    """
    url = os.environ.get("SUPERVISOR_SERVER_URL", "")
    if not url.startswith("unix://"):
        return True
    try:
        transport = _Transport(url.removeprefix("unix://"))
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        state = proxy.supervisor.getState()
    except xmlrpc.client.Fault as fault:
        # A supervisord on its way out answers every method with this.
        return fault.faultCode == SHUTDOWN_STATE
    except (OSError, xmlrpc.client.Error, http.client.HTTPException) as error:
        log.warning("supervisord does not say whether it is stopping: %s", error)
        return False
    return isinstance(state, dict) and state.get("statecode") != RUNNING
