"""``docker run -it`` from a real terminal: prompt, resize, Ctrl-C, detach, re-attach, exit code."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pexpect
import pytest

from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

pytestmark = pytest.mark.usefixtures("docker_command")

PROMPT = "/ # "
TIMEOUT = 90


@pytest.fixture
def terminals() -> Iterator[list[Any]]:
    opened: list[Any] = []
    yield opened
    for terminal in opened:
        if terminal.isalive():
            terminal.kill(signal.SIGKILL)
        leave(terminal)


def spawn(engine: Engine, terminals: list[Any], *arguments: str) -> Any:
    terminal = pexpect.spawn(
        "docker",
        list(arguments),
        env=engine.environment,
        timeout=TIMEOUT,
        encoding="utf-8",
        dimensions=(30, 90),
    )
    terminals.append(terminal)
    return terminal


def shell(engine: Engine, terminals: list[Any], name: str) -> Any:
    terminal = spawn(engine, terminals, "run", "-it", "--name", name, "busybox")
    terminal.expect_exact(PROMPT)
    return terminal


def leave(terminal: Any) -> None:
    """Close it once its process has ended: before that, closing it would be what ends the process."""
    terminal.wait()
    terminal.close()


def status(terminal: Any) -> int:
    terminal.expect(pexpect.EOF)
    leave(terminal)
    code: int = terminal.exitstatus
    return code


def test_prompt_and_exit_code(engine: Engine, name: str, terminals: list[Any]) -> None:
    terminal = shell(engine, terminals, name)
    terminal.sendline("tty; echo $TERM")
    terminal.expect_exact("/dev/pts/0")
    terminal.expect_exact("xterm")
    terminal.expect_exact(PROMPT)
    terminal.sendline("exit 23")
    assert status(terminal) == 23


def test_resize(engine: Engine, name: str, terminals: list[Any]) -> None:
    terminal = shell(engine, terminals, name)
    wait_until(lambda: _size(terminal) == "30 90", "the first size")
    terminal.setwinsize(41, 133)
    wait_until(lambda: _size(terminal) == "41 133", "the new size")


def _size(terminal: Any) -> str:
    terminal.sendline("stty size")
    terminal.expect(r"\r\n(\d+ \d+)\r\n")
    found: str = terminal.match[1]
    terminal.expect_exact(PROMPT)
    return found


def test_control_c_interrupts_the_foreground_program(engine: Engine, name: str, terminals: list[Any]) -> None:
    terminal = shell(engine, terminals, name)
    terminal.sendline("sleep 300")
    wait_until(lambda: "sleep 300" in engine.docker("top", name).stdout, "the program runs")
    terminal.sendcontrol("c")
    terminal.expect_exact("^C")
    terminal.expect_exact(PROMPT)
    terminal.sendline("echo $?; exit")
    terminal.expect_exact("130")


def test_control_c_ends_a_program_that_is_init(engine: Engine, name: str, terminals: list[Any]) -> None:
    terminal = spawn(
        engine, terminals, "run", "-it", "--name", name, "busybox", "sh", "-c",
        "trap 'echo interrupted; exit 3' INT; echo up; while :; do sleep 0.1; done",
    )  # fmt: skip
    terminal.expect_exact("up")
    terminal.sendcontrol("c")
    terminal.expect_exact("interrupted")
    assert status(terminal) == 3


def test_detach_and_attach_again(engine: Engine, name: str, terminals: list[Any]) -> None:
    terminal = shell(engine, terminals, name)
    terminal.sendline("marker=kept")
    terminal.expect_exact(PROMPT)
    terminal.sendcontrol("p")
    terminal.sendcontrol("q")
    terminal.expect(pexpect.EOF)
    leave(terminal)
    state = json.loads(engine.docker("inspect", name).stdout)[0]["State"]
    assert state["Running"]

    again = spawn(engine, terminals, "attach", name)
    again.sendline("echo $marker again")
    again.expect_exact("kept again")
    again.expect_exact(PROMPT)
    again.sendline("exit 4")
    assert status(again) == 4


def test_own_detach_keys(engine: Engine, name: str, terminals: list[Any]) -> None:
    terminal = spawn(engine, terminals, "run", "-it", "--detach-keys", "ctrl-x,x", "--name", name, "busybox")
    terminal.expect_exact(PROMPT)
    terminal.sendcontrol("x")
    terminal.send("x")
    terminal.expect(pexpect.EOF)
    assert json.loads(engine.docker("inspect", name).stdout)[0]["State"]["Running"]


def test_exec_terminal(engine: Engine, name: str, terminals: list[Any]) -> None:
    engine.docker("run", "-d", "--name", name, "busybox", "sleep", "300")
    terminal = spawn(engine, terminals, "exec", "-it", name, "sh")
    terminal.expect_exact(PROMPT)
    wait_until(lambda: _size(terminal) == "30 90", "the exec's size")
    terminal.setwinsize(50, 100)
    wait_until(lambda: _size(terminal) == "50 100", "the exec's new size")
    terminal.sendline("exit 9")
    assert status(terminal) == 9


def test_terminal_output_is_raw(engine: Engine, name: str, terminals: list[Any]) -> None:
    terminal = spawn(
        engine, terminals, "run", "-t", "--name", name, "busybox", "sh", "-c", "echo a; echo b >&2"
    )
    # Without -i the local terminal is not raw: it adds a carriage return of its own.
    terminal.expect(r"a\r+\nb\r+\n")
    assert status(terminal) == 0
    assert engine.docker("logs", name).stdout == "a\r\nb\r\n"
