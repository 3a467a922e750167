"""``wharfd-runtime``: runc's command line over the native runtime.

Flags that are known and not there are refused by name. Errors go to stderr and, as runc does it, to
``--log`` in the form of ``--log-format``, where containerd and others look for them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from services.containerd_shim.runtime.command import documents, executing, lifecycle, queries, updating
from services.containerd_shim.runtime.command.store import Store
from services.containerd_shim.runtime.planning import OCI_VERSION
from services.protocol.errors import Unimplemented, WharfError

DEFAULT_ROOT = "/run/wharfd-runtime"
_ENGINE_PREFIXES = ("OCI runtime create failed: ", "OCI runtime exec failed: ")
if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]
_NUMBERS = (
    "blkio-weight",
    "cpu-period",
    "cpu-quota",
    "cpu-burst",
    "cpu-share",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-idle",
    "pids-limit",
)
Command = Callable[[Store, argparse.Namespace], int]


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="wharfd-runtime", description="runc-compatible OCI runtime")
    top.add_argument("--debug", action="store_true", help="log debugging information")
    top.add_argument("--log", metavar="FILE", help="append errors to FILE")
    top.add_argument("--log-format", choices=("text", "json"), default="text")
    top.add_argument("--root", default=DEFAULT_ROOT, help="directory of the containers' state")
    top.add_argument("--systemd-cgroup", action="store_true", help="(not implemented)")
    top.add_argument(
        "--rootless", choices=("true", "false", "auto"), default="auto", help="(true: not implemented)"
    )
    top.add_argument("--version", "-v", action="version", version=_version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_creating(commands)
    _add_exec(commands)
    _add_update(commands)
    for name, run, text in (
        ("start", lifecycle.start, "run the program of a created container"),
        ("state", queries.state, "print the state of a container"),
        ("pause", lifecycle.pause, "suspend all processes"),
        ("resume", lifecycle.resume, "resume all processes"),
    ):
        _command(commands, name, run, text)
    kill = _command(commands, "kill", lifecycle.kill, "send a signal (default: SIGTERM) to the init process")
    kill.add_argument("--all", "-a", action="store_true", help="to all processes")
    kill.add_argument("signal", nargs="?", default="SIGTERM")
    delete = _command(commands, "delete", lifecycle.delete, "remove a stopped container")
    delete.add_argument("--force", "-f", action="store_true", help="kill it first")
    processes = _command(commands, "ps", queries.processes, "list the processes")
    processes.add_argument("--format", "-f", choices=("table", "json"), default="table")
    processes.add_argument("args", nargs=argparse.REMAINDER, metavar="PS-OPTION")
    events = _command(commands, "events", queries.events, "print counters and OOM events")
    events.add_argument("--interval", type=_seconds, default=5.0)
    events.add_argument("--stats", action="store_true", help="counters once")
    listing = _command(commands, "list", queries.list_containers, "list the containers", with_id=False)
    listing.add_argument("--format", "-f", choices=("table", "json"), default="table")
    listing.add_argument("--quiet", "-q", action="store_true")
    spec = _command(commands, "spec", documents.spec, "write an example config.json", with_id=False)
    spec.add_argument("--bundle", "-b", default=".")
    spec.add_argument("--rootless", action="store_true", help="(not implemented)")
    _command(commands, "features", documents.features, "print what is supported", with_id=False)
    return top


def _version() -> str:
    return f"wharfd-runtime\nspec: {OCI_VERSION}"


def _seconds(text: str) -> float:
    """Go's duration, as far as it is in seconds or milliseconds."""
    if text.endswith("ms"):
        return float(text[:-2]) / 1000
    return float(text.removesuffix("s"))


def _command(
    commands: _Commands,
    name: str,
    run: Command,
    text: str,
    *,
    with_id: bool = True,
) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=text, description=text)
    made.set_defaults(run=run)
    if with_id:
        made.add_argument("id", metavar="CONTAINER-ID")
    return made


def _add_creating(commands: _Commands) -> None:
    for name, run, text in (
        ("create", lifecycle.create, "create a container; its program waits for start"),
        ("run", lifecycle.run, "create and start a container"),
    ):
        made = _command(commands, name, run, text)
        made.add_argument("--bundle", "-b", default=".", help="directory of config.json")
        made.add_argument("--no-pivot", action="store_true", help="(not implemented)")
        _add_process_flags(made)
        if name == "run":
            made.add_argument("--detach", "-d", action="store_true")
            made.add_argument("--keep", action="store_true", help="do not delete it when it has ended")
            made.add_argument("--no-subreaper", action="store_true")


def _add_process_flags(made: argparse.ArgumentParser) -> None:
    made.add_argument("--console-socket", metavar="PATH", help="unix socket that receives the terminal")
    made.add_argument("--pid-file", metavar="FILE")
    made.add_argument("--preserve-fds", type=int, default=0, metavar="N", help="pass N descriptors from 3 on")


def _add_exec(commands: _Commands) -> None:
    made = _command(commands, "exec", executing.execute, "execute one more process")
    _add_process_flags(made)
    made.add_argument("--cwd")
    made.add_argument("--env", "-e", action="append", default=[])
    made.add_argument("--tty", "-t", action="store_true")
    made.add_argument("--user", "-u", metavar="UID[:GID]")
    made.add_argument("--additional-gids", "-g", action="append", type=int, default=[])
    made.add_argument("--process", "-p", metavar="FILE", help="the OCI process document")
    made.add_argument("--detach", "-d", action="store_true")
    made.add_argument("--process-label")
    made.add_argument("--apparmor")
    made.add_argument("--no-new-privs", action="store_true")
    made.add_argument("--cap", "-c", action="append", default=[])
    made.add_argument("--cgroup", help="(not implemented)")
    made.add_argument("--ignore-paused", action="store_true")
    made.add_argument("args", nargs=argparse.REMAINDER, metavar="COMMAND")


def _add_update(commands: _Commands) -> None:
    made = _command(commands, "update", updating.update, "change limits")
    made.add_argument("--resources", "-r", metavar="FILE", help="OCI linux.resources; - is stdin")
    for name in _NUMBERS:
        made.add_argument(f"--{name}", type=int)
    for name in ("memory", "memory-reservation", "memory-swap"):
        made.add_argument(f"--{name}", type=updating.size)
    for name in ("cpuset-cpus", "cpuset-mems"):
        made.add_argument(f"--{name}")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: the program's for foreground run and exec, 1 for an error of the runtime."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.systemd_cgroup:
            raise Unimplemented("--systemd-cgroup is not implemented")
        if arguments.rootless == "true" and arguments.command != "spec":
            raise Unimplemented("--rootless=true is not implemented")
        run: Command = arguments.run
        return run(Store(Path(arguments.root)), arguments)
    except (WharfError, OSError) as error:
        text = str(error)
        for prefix in _ENGINE_PREFIXES:
            text = text.removeprefix(prefix)
        _log(arguments, text)
        print(f"wharfd-runtime: {text}", file=sys.stderr)
        exit_code = error.exit_code if isinstance(error, WharfError) else None
        return 255 if arguments.command == "exec" and exit_code is not None else 1


def _log(arguments: argparse.Namespace, text: str) -> None:
    if not arguments.log:
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if arguments.log_format == "json":
        line = json.dumps({"level": "error", "msg": text, "time": now})
    else:
        line = f"time={json.dumps(now)} level=error msg={json.dumps(text)}"
    try:
        with open(arguments.log, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        print(f"wharfd-runtime: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
