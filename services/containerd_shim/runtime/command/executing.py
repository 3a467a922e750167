"""exec: one more process in a running container."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import msgspec

from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.command import lifecycle, terminal
from services.containerd_shim.runtime.command.store import Store
from services.containerd_shim.runtime.container import Stdio
from services.protocol import oci
from services.protocol.errors import Conflict, InvalidParameter, Unimplemented


def execute(store: Store, arguments: argparse.Namespace) -> int:
    """The exit status of the process; 0 at once when detached."""
    if arguments.cgroup:
        raise Unimplemented("--cgroup is not implemented")
    stored = store.get(arguments.id)
    status = stored.status()
    if status == "stopped":
        raise Conflict("cannot exec in a stopped container")
    if status == "paused" and not arguments.ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")
    process = _process(stored.record.spec, arguments)
    terminal.check_console_socket(
        arguments.console_socket, has_terminal=process.terminal, detached=arguments.detach
    )
    if not arguments.detach:
        sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)
    started = stored.load().exec(
        process,
        None if process.terminal else Stdio(0, 1, 2),
        preserve_fds=arguments.preserve_fds,
        ignore_paused=arguments.ignore_paused,
    )
    if arguments.console_socket and started.console is not None:
        terminal.send_console(arguments.console_socket, started.console)
    if arguments.pid_file:
        lifecycle.write_pid_file(arguments.pid_file, started.pid)
    if arguments.detach:
        return 0
    with terminal.foreground(started):
        return terminal.wait(started)


def _process(spec: oci.Spec, arguments: argparse.Namespace) -> oci.Process:
    """The document given, or the container's with the command line's changes."""
    if arguments.process:
        try:
            return msgspec.json.decode(Path(arguments.process).read_bytes(), type=oci.Process)
        except OSError as error:
            raise InvalidParameter(f"open {arguments.process}: {(error.strerror or '').lower()}") from error
        except msgspec.MsgspecError as error:
            raise InvalidParameter(f"{arguments.process}: {error}") from error
    if not arguments.args:
        raise InvalidParameter("process args cannot be empty")
    process = copy.deepcopy(spec.process) or oci.Process()
    process.args = arguments.args
    process.terminal = arguments.tty
    process.cwd = arguments.cwd or process.cwd
    process.env = process.env + arguments.env
    process.apparmor_profile = arguments.apparmor or process.apparmor_profile
    process.selinux_label = arguments.process_label or process.selinux_label
    process.no_new_privileges = arguments.no_new_privs or process.no_new_privileges
    if arguments.user:
        process.user = _user(arguments.user)
    process.user.additional_gids = process.user.additional_gids + arguments.additional_gids
    if arguments.cap:
        capabilities = process.capabilities or oci.Capabilities()
        for name in ("bounding", "effective", "permitted"):
            setattr(capabilities, name, list({*getattr(capabilities, name), *arguments.cap}))
        process.capabilities = capabilities
    return process


def _user(text: str) -> oci.User:
    uid, _, gid = text.partition(":")
    if not uid.isdigit() or (gid and not gid.isdigit()):
        raise InvalidParameter(f"invalid user {text!r}: expected uid[:gid] in numbers")
    return oci.User(uid=int(uid), gid=int(gid or 0))
