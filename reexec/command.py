"""``command("docker-mountfrom", directory)``: a process that runs a helper.

:class:`Command` executes an interpreter: for programs without a zygote (tests, the runtime's
command line). :func:`request` asks the zygote to fork, which costs a few milliseconds less; its
asynchronous twin belongs to the caller's event loop.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from reexec.dispatch import FDS_VARIABLE
from services.protocol import fdpass
from services.protocol.errors import Unavailable
from services.protocol.helpers import HelperExit, HelperRequest

_ROOT = str(Path(__file__).resolve().parent.parent)
_STANDARD = ("stdin", "stdout", "stderr")


class Command:
    """A helper about to be executed; ``fds`` other than the standard ones are passed by name."""

    def __init__(self, argv: list[str], fds: Mapping[str, int]) -> None:
        self.argv = argv
        self.fds = dict(fds)

    def start(self, *, stderr: int | None = None) -> subprocess.Popen[bytes]:
        """Start it; the caller waits for it. *stderr* may be ``subprocess.PIPE``."""
        named = {name: fd for name, fd in self.fds.items() if name not in _STANDARD}
        passed = ",".join(f"{name}={fd}" for name, fd in named.items())
        paths = [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, FDS_VARIABLE: passed, "PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.Popen(
            [sys.executable, "-m", "reexec", *self.argv],
            stdin=self.fds.get("stdin"),
            stdout=self.fds.get("stdout"),
            stderr=self.fds.get("stderr", stderr),
            pass_fds=tuple(named.values()),
            env=environment,
        )

    def run(self) -> tuple[int, str]:
        """Run it to its end; returns (exit status, what it wrote to standard error)."""
        with self.start(stderr=subprocess.PIPE) as process:
            _, errors = process.communicate()
        return process.returncode, (errors or b"").decode(errors="replace")


def command(*argv: str, fds: Mapping[str, int] | None = None) -> Command:
    """A process running the helper ``argv[0]``, by exec."""
    return Command(list(argv), fds or {})


def request(
    zygote: Path,
    *argv: str,
    fds: Mapping[str, int] | None = None,
    private_mounts: bool = False,
    timeout: float | None = None,
) -> HelperExit:
    """The helper ``argv[0]`` by a fork of the zygote listening at *zygote*; waits for its end.

    Raises :class:`Unavailable` when the helper was killed or took longer than *timeout* seconds.
    """
    named = dict(fds or {})
    message = HelperRequest(list(argv), list(named), private_mounts=private_mounts)
    with fdpass.connect(zygote) as connection:
        connection.settimeout(timeout)
        fdpass.send(connection, message, list(named.values()))
        try:
            ended, _ = fdpass.receive(connection, HelperExit)
        except TimeoutError as error:
            raise Unavailable(f"{argv[0]} took longer than {timeout} seconds") from error
        except Unavailable as error:
            raise Unavailable(f"{argv[0]} was killed") from error
    return ended
