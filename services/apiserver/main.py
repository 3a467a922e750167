"""Entry point of the API server: ``python -m services.apiserver.main``.

This process becomes gunicorn's arbiter. It imports as little as it can: what it holds is held for
as long as the daemon runs, beside the worker that does the work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Any

from services.apiserver import listeners
from services.protocol.exits import EXIT_MISCONFIGURED
from services.protocol.listening import Shelf

log = logging.getLogger(__name__)

#: Seconds that the daemon's settings may take to be written.
SETTINGS_TIMEOUT = 30.0


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="apiserver", description="HTTP side of wharfd")
    default = os.environ.get("WHARFD_EXEC_ROOT", "/run/wharfd")
    parser.add_argument("--exec-root", type=Path, default=Path(default))
    parser.add_argument("--host", action="append", default=[], help="unix://, tcp:// or fd://; repeatable")
    parser.add_argument("--group", help="group of the unix sockets")
    parser.add_argument("--debug", action="store_true")
    return parser.parse_args(argv)


def read_settings(exec_root: Path) -> dict[str, Any]:
    """What ``services.protocol.settings.load`` returns, as a plain dict: see the module's text.

    Under supervisord the settings are those that name it; others are of a daemon that is gone.
    """
    supervised = bool(os.environ.get("SUPERVISOR_ENABLED"))
    deadline = time.monotonic() + SETTINGS_TIMEOUT
    while True:
        found: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError):
            found = json.loads((exec_root / "settings.json").read_bytes())
        if not supervised or found.get("supervisor") == os.getppid():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"no settings at {exec_root} within {SETTINGS_TIMEOUT:g} s")
        time.sleep(0.02)


def _listening(hosts: list[str], group: str, shelf: Shelf | None) -> list[socket.socket]:
    """Sockets for *hosts*: those of the API server before, or new ones that the next finds on the *shelf*."""
    if shelf is None:
        return listeners.open_all(hosts, group)
    with contextlib.closing(shelf):
        if not (sockets := shelf.look()):
            sockets = listeners.open_all(hosts, group)
            shelf.put(sockets)
        return sockets


def main(argv: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if argv is None else argv)
    settings = read_settings(options.exec_root)
    debug = options.debug or settings.get("debug", False)
    level: str = "debug" if debug else settings.get("log_level", "info")
    logging.basicConfig(
        stream=sys.stderr,
        level={"fatal": "CRITICAL"}.get(level, level.upper()),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # one per connection
    hosts = options.host or settings.get("hosts") or [f"unix://{options.exec_root}/docker.sock"]
    group = options.group if options.group is not None else settings.get("group", listeners.DEFAULT_GROUP)
    shelf = Shelf.inherited()
    try:
        sockets = _listening(hosts, group, shelf)
    except (listeners.ListenError, OSError) as error:
        log.error("failed to load listeners: %s", error)
        return EXIT_MISCONFIGURED
    for variable in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(variable, None)
    from services.apiserver.server import Application

    gunicorn_level = {"fatal": "critical", "warn": "warning"}.get(level, level)
    keep = shelf is not None or any(host.startswith("fd://") for host in hosts)
    experimental = bool(settings.get("experimental", False))
    Application(
        options.exec_root, sockets, log_level=gunicorn_level, keep=keep, experimental=experimental
    ).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
