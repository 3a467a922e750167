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
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

TITLE = "wharfd: apiserver"
#: Seconds until a worker that was asked to stop is killed; more than its own grace.
STOP = 5
#: Seconds without a sign of life after which the arbiter kills the worker.
HANG = 60
_PR_SET_PDEATHSIG = 1


class Launcher(Worker):  # type: ignore[misc]
    """Stands for the worker in the arbiter, and becomes it in the child.

    What serves is imported after the fork: the arbiter would only hold it in memory.
    """

    exec_root: Path
    experimental: bool

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._arguments = args

    def init_process(self) -> None:
        from services.apiserver import headers
        from services.apiserver.worker import create_worker

        if self.experimental:
            headers.announce_experimental()
        worker = create_worker(self.exec_root, *self._arguments)
        worker.tmp.close()
        worker.pid, worker.tmp = self.pid, self.tmp  # the file whose age the arbiter watches
        worker.init_process()


class Application(BaseApplication):  # type: ignore[misc]
    """*listeners* are handed to gunicorn as descriptors, which it owns from then on."""

    def __init__(
        self,
        exec_root: Path,
        listeners: list[socket.socket],
        *,
        log_level: str,
        keep: bool,
        experimental: bool,
    ) -> None:
        self._bind = [f"fd://{sock.detach()}" for sock in listeners]
        self._log_level = log_level
        self._keep = keep
        Launcher.exec_root = exec_root
        Launcher.experimental = experimental
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": self._bind,
            "workers": 1,
            "worker_class": Launcher,
            "timeout": HANG,
            "graceful_timeout": STOP,
            "loglevel": self._log_level,
            "errorlog": "-",
            "proc_name": TITLE,
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
        arbiter.systemd = self._keep  # sockets that are others' as well are not unlinked at the end
        arbiter.run()


def _before_fork(arbiter: Any, worker: Any) -> None:
    """What is there now stays: keep the collector from writing to pages shared with the worker."""
    setproctitle.setproctitle(TITLE)  # here, because gunicorn sets its own after its other hooks
    gc.collect()
    gc.freeze()


def _in_worker(arbiter: Any, worker: Any) -> None:
    # The arbiter's handlers are inherited and do nothing here; the worker's own come after its imports.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    setproctitle.setproctitle(TITLE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != worker.ppid:
        os.kill(os.getpid(), signal.SIGTERM)
