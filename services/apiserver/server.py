"""gunicorn with one asyncio worker.

One worker is enough: nothing in it blocks, and the bytes of streams do not pass through it. The
arbiter restarts it when it dies or hangs; the arbiter's own death ends it (``PR_SET_PDEATHSIG``), so
that two API servers never answer on one address.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
from pathlib import Path
from typing import Any

import setproctitle
import zmq
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from services.apiserver.connection import MAX_HEADER, Connection
from services.protocol.paths import ExecRoot

TITLE = "wharfd: apiserver"
#: Seconds that answers in progress may take when the server is stopped.
GRACE = 5
#: Seconds without a sign of life after which the arbiter kills the worker.
HANG = 60
#: Seconds an idle connection is kept; dockerd has no limit.
KEEP_ALIVE = 3600
_PR_SET_PDEATHSIG = 1


class Worker(UvicornWorker):  # type: ignore[misc]
    """``exec_root`` is set by :class:`Application` before the fork."""

    exec_root: ExecRoot
    CONFIG_KWARGS = {  # noqa: RUF012
        "loop": "asyncio",
        "http": Connection,
        "ws": "none",  # loaded by the connection that needs it
        "lifespan": "off",
        "proxy_headers": False,
        "date_header": False,
        "server_header": False,
        "h11_max_incomplete_event_size": MAX_HEADER,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": GRACE,
    }

    async def _serve(self) -> None:
        from services.apiserver.app import Services, create_app
        from services.apiserver.client import Engine
        from services.apiserver.events import EventHub

        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        engine = Engine(self.exec_root, context)
        events = EventHub(self.exec_root, context, engine)
        engine.open()
        events.open()
        self.config.app = create_app(Services(engine, events))
        server = _Server(self.config, events.close)
        self._install_sigquit_handler()
        try:
            await server.serve(sockets=self.sockets)
        finally:
            events.close()
            engine.close()
            context.term()


class _Server(Server):
    """Ends the event streams when it is asked to stop: they would never end by themselves."""

    def __init__(self, config: Any, stopping: Any) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)


class Application(BaseApplication):  # type: ignore[misc]
    """*listeners* are handed to gunicorn as descriptors, which it owns from then on."""

    def __init__(
        self, exec_root: Path, listeners: list[socket.socket], *, log_level: str, keep: bool
    ) -> None:
        self._listeners = listeners
        self._log_level = log_level
        self._keep = keep
        Worker.exec_root = ExecRoot(exec_root)
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": [f"fd://{sock.detach()}" for sock in self._listeners],
            "workers": 1,
            "worker_class": Worker,
            "timeout": HANG,
            "graceful_timeout": GRACE + 2,
            "loglevel": self._log_level,
            "errorlog": "-",
            "proc_name": TITLE,
            "when_ready": lambda _: setproctitle.setproctitle(TITLE),
            "pre_fork": _before_fork,
            "post_fork": _in_worker,
            "control_socket_disable": True,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """The application needs the event loop: the worker makes it."""

    def run(self) -> None:
        arbiter = Arbiter(self)
        arbiter.systemd = self._keep  # passed sockets are systemd's: not unlinked at the end
        arbiter.run()


def _before_fork(arbiter: Any, worker: Any) -> None:
    """What is there now stays: keep the collector from writing to pages shared with the worker."""
    gc.collect()
    gc.freeze()


def _in_worker(arbiter: Any, worker: Any) -> None:
    setproctitle.setproctitle(TITLE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != worker.ppid:
        os.kill(os.getpid(), signal.SIGTERM)
