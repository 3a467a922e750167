"""The worker: uvicorn serving the falcon application in one event loop.

Imported after the fork, so that the arbiter stays small.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import zmq
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from services.apiserver.app import Services, create_app
from services.apiserver.client import Engine
from services.apiserver.connection import MAX_HEADER, Connection
from services.apiserver.events import EventHub
from services.protocol.paths import ExecRoot

#: Seconds that answers in progress may take when the server is stopped.
GRACE = 3
#: Seconds an idle connection is kept; dockerd has no limit.
KEEP_ALIVE = 3600


class Worker(UvicornWorker):  # type: ignore[misc]
    """``exec_root`` is set before ``init_process``."""

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


def create_worker(exec_root: Path, *arguments: Any) -> Worker:
    worker = Worker(*arguments)
    worker.exec_root = ExecRoot(exec_root)
    return worker
