"""What is done with a container's processes and streams while one is killed in it (``test_crash_points``)."""

from __future__ import annotations

from tests.e2e.operations import Operation

_SLEEP = ("busybox", "sleep", "1000")
_RUNNING = ("run", "-d", "--name", "point", *_SLEEP)
_WRITING = ("run", "-d", "--name", "point", "busybox", "sh", "-c", "echo a; sleep 0.5; echo b")
_LIVES = ("exec", "point", "true")
_ENDED = ("rm", "-f", "-v", "point")


def _on_running(name: str, *act: str, stdin: str | None = None) -> Operation:
    return Operation(name, act, prepare=(_RUNNING,), then=(_LIVES,), finish=(_ENDED,), stdin=stdin)


PROCESSES = (
    Operation("run-input", ("run", "--rm", "-i", "--name", "point", "busybox", "cat"), stdin="in\n"),
    Operation("run-terminal", ("run", "--rm", "-t", "--name", "point", "busybox", "echo", "out")),
    Operation("run-detached", ("run", "-d", "--init", "--memory", "100m", "--name", "point", *_SLEEP),
              finish=(_ENDED,)),
    _on_running("exec-input", "exec", "-i", "point", "cat", stdin="in\n"),
    _on_running("exec-terminal", "exec", "-t", "-u", "nobody", "point", "echo", "out"),
    _on_running("top", "top", "point"),
    _on_running("stats", "stats", "--no-stream", "point"),
    Operation("logs-follow", ("logs", "-f", "point"), prepare=(_WRITING,), finish=(_ENDED,)),
    Operation("health", ("exec", "point", "sleep", "1"), then=(_LIVES,), finish=(_ENDED,),
              prepare=(("run", "-d", "--health-cmd", "true", "--health-interval", "100ms", "--name", "point",
                        *_SLEEP),)),
)  # fmt: skip
