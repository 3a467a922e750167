"""containerd-shim: the task service. ``python -m services.containerd_shim.main --exec-root DIR``.

Order of the start: zygote; shims found again and their events taken in; socket. SIGTERM ends the
service and the zygote, and no shim.
"""

from __future__ import annotations

import services.without_tls  # isort: skip  # noqa: F401 - before asyncio

import argparse
import asyncio
import logging
import os
import resource
import signal
import sys
from pathlib import Path

import setproctitle

from services.containerd_shim.hub import EventHub
from services.containerd_shim.registry import Registry
from services.containerd_shim.service import make_server
from services.containerd_shim.zygote_client import ZygoteClient
from services.protocol.paths import ExecRoot

log = logging.getLogger(__name__)

#: Seconds that open calls get when the service is told to end.
GRACE = 1.0


async def serve(exec_root: ExecRoot) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    exec_root.root.mkdir(mode=0o711, parents=True, exist_ok=True)
    zygote = ZygoteClient(exec_root)
    zygote.start()
    hub = EventHub()
    registry = Registry(exec_root, zygote, hub)
    await registry.recover()
    server = make_server(registry, hub)
    socket = exec_root.shim_service
    socket.unlink(missing_ok=True)
    umask = os.umask(0o177)  # gRPC makes the socket; nobody but root is to connect
    try:
        server.add_insecure_port(f"unix:{socket}")
    finally:
        os.umask(umask)
    await server.start()
    log.info("containerd-shim serves %s", socket)
    await stop.wait()
    await server.stop(GRACE)
    registry.close()
    zygote.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="containerd-shim")
    parser.add_argument("--exec-root", default=os.environ.get("WHARFD_EXEC_ROOT", "/run/wharfd"))
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    setproctitle.setproctitle("wharfd: containerd-shim")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(serve(ExecRoot(Path(options.exec_root).absolute())))


if __name__ == "__main__":
    main()
