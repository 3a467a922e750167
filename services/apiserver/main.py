"""Entry point of the API server: ``python -m services.apiserver.main``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from services.apiserver import listeners
from services.protocol import settings as merged
from services.protocol.errors import WharfError

log = logging.getLogger(__name__)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="apiserver", description="HTTP side of wharfd")
    default = os.environ.get("WHARFD_EXEC_ROOT", "/run/wharfd")
    parser.add_argument("--exec-root", type=Path, default=Path(default))
    parser.add_argument("--host", action="append", default=[], help="unix://, tcp:// or fd://; repeatable")
    parser.add_argument("--group", help="group of the unix sockets")
    parser.add_argument("--debug", action="store_true")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if argv is None else argv)
    settings = merged.load(options.exec_root)
    debug = options.debug or settings.debug
    level = "debug" if debug else settings.log_level
    logging.basicConfig(
        stream=sys.stderr,
        level={"fatal": "CRITICAL"}.get(level, level.upper()),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    hosts = options.host or settings.hosts or [f"unix://{options.exec_root}/docker.sock"]
    group = options.group if options.group is not None else settings.group
    try:
        sockets = listeners.open_all(hosts, group)
    except (WharfError, OSError) as error:
        log.error("failed to load listeners: %s", error)
        return 1
    for variable in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(variable, None)
    from services.apiserver.server import Application

    gunicorn_level = {"fatal": "critical", "warn": "warning"}.get(level, level)
    keep = any(host.startswith("fd://") for host in hosts)
    Application(options.exec_root, sockets, log_level=gunicorn_level, keep=keep).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
