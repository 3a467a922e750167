"""What is tried with a service killed in the middle of it (``test_crash_points``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operation:
    """``act`` is killed in; ``prepare`` comes before it and ``finish`` after it, whatever became of it.

    ``then`` comes between ``act`` and ``finish`` and succeeds: what was there before is there, and works.
    """

    name: str
    act: tuple[str, ...]
    prepare: tuple[tuple[str, ...], ...] = ()
    then: tuple[tuple[str, ...], ...] = ()
    finish: tuple[tuple[str, ...], ...] = ()
    stdin: str | None = None

    @property
    def is_on_running(self) -> bool:
        """A container is started for it, whose shim can be killed, too."""
        return any(command[0] == "run" for command in self.prepare)


OPERATIONS = (
    Operation("create", ("create", "-v", "/data", "-p", "80", "--name", "point", "busybox", "true"),
              finish=(("rm", "-f", "-v", "point"),)),
    Operation("run", ("run", "--rm", "-v", "/data", "-p", "80", "--name", "point", "busybox", "echo", "out")),
)  # fmt: skip
