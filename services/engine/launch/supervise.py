"""supervisord inside the ``wharfd`` process, with what a daemon needs beyond it.

* Signals are acted on at once (supervisord looks for them once a second).
* SIGHUP reloads the daemon's options instead of restarting its services; SIGUSR1 asks the engine
  for its stacks.
* The services die with the supervisor (PR_SET_PDEATHSIG): one that is killed leaves no second set
  of services behind. Containers have shims, which outlive both.
* Shims outlive the zygote that forked them. They become children of this process then (a child
  subreaper, prctl(2)), and supervisord reaps what it does not know: a pid 1 that does not, as is common
  in containers, would collect zombies.
* What the services print also goes to the daemon's standard error.
* The API's listening sockets are held here (``listening``): while an API server that was killed starts
  again, clients wait in them.
* A service that says at the daemon's start that it can never start (``EXIT_MISCONFIGURED``) ends
  the daemon with status 1.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from supervisor import events
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from services.engine.launch.listening import Listening
from services.protocol.exits import EXIT_MISCONFIGURED

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: Seconds within which a service finds out that it cannot start.
_START_WINDOW = 30.0
_libc = ctypes.CDLL(None, use_errno=True)


class _Wakeup:
    """The read end of a pipe that every signal writes to, as a dispatcher of supervisord's loop."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def poke(self) -> None:
        """Let the loop go round once more without waiting."""
        os.write(self._write, b"x")

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def handle_error(self) -> None:
        """An unreadable pipe only costs speed: signals are still looked for once a second."""

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write)


class _Options(ServerOptions):  # type: ignore[misc]
    def __init__(self, wakeup: _Wakeup, listening: Listening) -> None:
        super().__init__()
        self.wakeup = wakeup
        self._listening = listening
        self._supervisor = os.getpid()
        self.misconfigured = False
        self._restarted: set[str] = set()

    def get_socket_map(self) -> dict[int, Any]:
        # The loop reads this map once and keeps it: the object must be the one asyncore fills.
        asyncore.socket_map[self.wakeup.fd] = self.wakeup
        return super().get_socket_map()  # type: ignore[no-any-return]

    def setsignals(self) -> None:
        super().setsignals()
        signal.signal(signal.SIGUSR1, self.signal_receiver.receive)

    def execve(self, filename: str, argv: list[str], env: Mapping[str, str]) -> None:
        signal.set_wakeup_fd(-1)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != self._supervisor:
            os._exit(1)  # it was gone before the watch was set
        environment = dict(env)
        if environment.get("SUPERVISOR_PROCESS_NAME") == "apiserver":
            self._listening.hand_down(environment)
        super().execve(filename, argv, environment)

    def close_fd(self, fd: int) -> None:
        """A child closes all it does not know; what is held for the API server ends at execve."""
        if fd not in self._listening.fds:
            super().close_fd(fd)

    def waitpid(self) -> tuple[int | None, int | None]:
        pid, status = super().waitpid()
        if pid and (process := self.pidhistory.get(pid)) is not None:
            self._ended(process, status)
        return pid, status

    def _ended(self, process: Any, status: int) -> None:
        """A service that was up before is restarted whatever it says: containers depend on us."""
        name = process.config.name
        first, young = name not in self._restarted, time.time() - process.laststart < _START_WINDOW
        self._restarted.add(name)
        if first and young and os.WIFEXITED(status) and os.WEXITSTATUS(status) == EXIT_MISCONFIGURED:
            self.misconfigured = True
            self.mood = SupervisorStates.SHUTDOWN


class _Supervisor(Supervisor):  # type: ignore[misc]
    def __init__(self, options: _Options, reload: Callable[[], None]) -> None:
        super().__init__(options)
        self._reload = reload

    def runforever(self) -> None:
        events.subscribe(events.ProcessLogEvent, _echo)
        self.options.wakeup.poke()
        super().runforever()

    def ordered_stop_groups_phase_2(self) -> None:
        before = len(self.stop_groups or ())
        super().ordered_stop_groups_phase_2()
        if len(self.stop_groups or ()) < before:
            self.options.wakeup.poke()

    def handle_signal(self) -> None:
        received = self.options.signal_receiver._signals_recvd
        if received:
            self.options.wakeup.poke()
        if received and received[0] in (signal.SIGHUP, signal.SIGUSR1):
            number = received.pop(0)
            if number == signal.SIGHUP:
                self._reload()
            self._tell_engine(number)
        super().handle_signal()

    def _tell_engine(self, number: int) -> None:
        process = self.process_groups["engine"].processes["engine"]
        if process.pid:
            process.signal(number)


def _echo(event: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(2, event.data if isinstance(event.data, bytes) else event.data.encode())


def run(configuration: Path, listening: Listening, reload: Callable[[], None]) -> int:
    """Run the tree in *configuration* until SIGTERM, SIGINT or SIGQUIT; the exit status.

    *listening* is handed down to the API server, and closed when the services are being stopped. *reload* is
    called on SIGHUP, before the engine gets it; it must not raise.
    """
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wakeup = _Wakeup()
    options = _Options(wakeup, listening)
    options.realize(["-c", str(configuration)], doc=__doc__, progname="wharfd")
    options.first = True
    options.test = False
    events.subscribe(events.SupervisorStoppingEvent, lambda _: listening.close())
    supervisor = _Supervisor(options, reload)
    try:
        supervisor.main()
    except asyncore.ExitNow:
        pass
    finally:
        options.close_httpservers()
        options.close_logger()
        asyncore.socket_map.pop(wakeup.fd, None)
        wakeup.close()
    return 1 if options.misconfigured else 0
