"""create, start, run, kill, delete, pause, resume."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import time
from pathlib import Path

from services.containerd_shim.runtime import spawn
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.command import terminal
from services.containerd_shim.runtime.command.store import Store, Stored, read_spec
from services.containerd_shim.runtime.container import Container, Started, Stdio
from services.protocol import fdpass
from services.protocol.errors import Conflict, InvalidParameter, Unavailable, Unimplemented, WharfError

_KILL_SECONDS = 10.0


def create(store: Store, arguments: argparse.Namespace) -> int:
    """Make the container; its program waits for ``start``."""
    _make(store, arguments)
    return 0


def _make(store: Store, arguments: argparse.Namespace) -> tuple[Stored, Container, Started]:
    if arguments.no_pivot:
        raise Unimplemented("--no-pivot is not implemented")
    bundle = Path(arguments.bundle).absolute()
    spec = read_spec(bundle)
    has_terminal = spec.process is not None and spec.process.terminal
    detached = arguments.command == "create" or arguments.detach
    terminal.check_console_socket(arguments.console_socket, has_terminal=has_terminal, detached=detached)
    stored = store.make(arguments.id, bundle, spec)
    try:
        container = Container(arguments.id, bundle, spec)
        gate = fdpass.listen(stored.gate)
        started = container.create(
            None if has_terminal else Stdio(0, 1, 2), gate=gate, preserve_fds=arguments.preserve_fds
        )
        gate.close()
        try:
            if arguments.console_socket and started.console is not None:
                terminal.send_console(arguments.console_socket, started.console)
            if arguments.pid_file:
                write_pid_file(arguments.pid_file, started.pid)
            stored.save(container)
        except BaseException:
            spawn.kill_and_reap(started.pid)
            container.destroy()
            raise
    except BaseException:
        stored.remove()
        raise
    return stored, container, started


def write_pid_file(path: str, pid: int) -> None:
    """Whole or not at all: whoever waits for the file reads a number."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}")
    temporary.write_text(str(pid))
    os.replace(temporary, target)


def start(store: Store, arguments: argparse.Namespace) -> int:
    """Let the created container's program run."""
    with store.locked(arguments.id) as stored:
        status = stored.status()
        if status == "stopped":
            raise Conflict("cannot start a container that has stopped")
        if status != "created":
            raise Conflict("cannot start an already running container")
        _open_gate(stored)
    return 0


def _open_gate(stored: Stored) -> None:
    try:
        sock = fdpass.connect(stored.gate)
    except Unavailable:
        raise Conflict("cannot start a container that has stopped") from None
    with sock:
        spawn.begin(sock, b"")
    stored.gate.unlink(missing_ok=True)
    stored.load().run_poststart()


def run(store: Store, arguments: argparse.Namespace) -> int:
    """create and start; in the foreground also wait, and delete."""
    if not arguments.detach and not arguments.no_subreaper:
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    stored, container, started = _make(store, arguments)
    if arguments.detach:
        try:
            _open_gate(stored)
        except BaseException:
            _remove(stored, container)
            raise
        return 0
    try:
        with terminal.foreground(started):
            _open_gate(stored)
            code = terminal.wait(started)
    finally:
        if not arguments.keep:
            _remove(stored, container)
    return code


def _remove(stored: Stored, container: Container) -> None:
    container.destroy()
    if container.pid:
        spawn.reap(container.pid)
    stored.remove()


def parse_signal(text: str) -> int:
    """A number, or a name with or without SIG."""
    if text.isdigit():
        return int(text)
    name = text.upper()
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise InvalidParameter(f"unknown signal {text!r}") from None


def kill(store: Store, arguments: argparse.Namespace) -> int:
    with store.locked(arguments.id) as stored:
        container = stored.load()
        if arguments.all and not container.alive():
            # The init may be gone while others of a shared pid namespace are left.
            container.kill(parse_signal(arguments.signal), all=True)
            return 0
        container.kill(parse_signal(arguments.signal), all=arguments.all)
    return 0


def delete(store: Store, arguments: argparse.Namespace) -> int:
    try:
        with store.locked(arguments.id) as stored:
            status = stored.status()
            container = stored.load()
            if status not in ("stopped", "created") and not arguments.force:
                raise Conflict(f"cannot delete container {arguments.id} that is not stopped: {status}")
            if status != "stopped":
                _end(container, paused=status == "paused")
            container.destroy()
            stored.remove()
    except WharfError as error:
        if not (arguments.force and error.kind == "not-found"):
            raise
        directory = store.directory(arguments.id)
        with contextlib.suppress(OSError):
            directory.rmdir()
    return 0


def _end(container: Container, *, paused: bool) -> None:
    with contextlib.suppress(WharfError):
        container.kill(signal.SIGKILL)
    if paused:
        container.resume()
    deadline = time.monotonic() + _KILL_SECONDS
    while container.alive():
        if time.monotonic() > deadline:
            raise Unavailable("container init still running")
        time.sleep(0.002)


def pause(store: Store, arguments: argparse.Namespace) -> int:
    with store.locked(arguments.id) as stored:
        status = stored.status()
        if status not in ("running", "created"):
            raise Conflict(f"container not running or created: {status}")
        stored.load().pause()
    return 0


def resume(store: Store, arguments: argparse.Namespace) -> int:
    with store.locked(arguments.id) as stored:
        if stored.status() != "paused":
            raise Conflict("container not paused")
        stored.load().resume()
    return 0
