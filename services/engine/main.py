"""The engine's process: argv, logging, signals, exit code. Everything else is in ``daemon``."""

from __future__ import annotations

import services.without_tls  # isort: skip  # noqa: F401 - before asyncio

import argparse
import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from setproctitle import setproctitle

from reexec import dispatch
from services.engine.daemon import Daemon
from services.protocol import settings as settings_file
from services.protocol.errors import WharfError
from services.protocol.exits import EXIT_MISCONFIGURED
from services.protocol.settings import Settings

log = logging.getLogger("services.engine")

_LEVELS = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "error": "ERROR", "fatal": "CRITICAL"}


def main() -> int:
    """Serve until SIGTERM; 0 after an orderly stop, EXIT_MISCONFIGURED when the boot failed."""
    dispatch.init()
    parser = argparse.ArgumentParser(prog="services.engine.main")
    parser.add_argument("--exec-root", type=Path, default=Path("/run/wharfd"))
    settings = settings_file.load(parser.parse_args().exec_root)
    setproctitle("wharfd: engine")
    os.umask(0o022)
    logging.basicConfig(
        level="DEBUG" if settings.debug else _LEVELS.get(settings.log_level, "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if os.geteuid() != 0:
        log.critical("the engine needs to be started by root")
        return 1
    with _only_engine(Path(settings.exec_root)):
        try:
            asyncio.run(_serve(settings))
        except WharfError as error:
            log.critical("failed to start daemon: %s", error)
            return EXIT_MISCONFIGURED
    return 0


@contextlib.contextmanager
def _only_engine(exec_root: Path) -> Iterator[None]:
    """Wait for the lock of this exec root: one writer, even while a predecessor is still stopping."""
    exec_root.mkdir(mode=0o711, parents=True, exist_ok=True)
    fd = os.open(exec_root / "engine.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, _dump_stacks)
    daemon = await Daemon.boot(settings)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload)
    # What the boot has made lives as long as the process: no collection walks it again.
    gc.collect()
    gc.freeze()
    await daemon.serve(stop)


def _dump_stacks() -> None:
    """SIGUSR1: the stack of every thread and task, to standard error."""
    import faulthandler

    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    for task in asyncio.all_tasks():
        print(f"Task {task.get_name()} (most recent call last):", file=sys.stderr)
        for frame in task.get_stack():
            code = frame.f_code
            # Not Task.print_stack, which fails: frames of compiled modules have no line.
            print(f"  {code.co_filename}:{frame.f_lineno} in {code.co_qualname}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
