"""The ``wharfd`` command: options merged and checked, then the process tree in the foreground."""

from __future__ import annotations

import services.without_tls  # isort: skip  # noqa: F401 - before supervisor

import contextlib
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from setproctitle import setproctitle

from services.engine.config.file import ConfigError
from services.engine.config.flags import UsageError
from services.engine.config.load import invocation
from services.engine.config.options import OPTIONS
from services.engine.config.usage import usage, version
from services.engine.launch import host, supervise, tree
from services.engine.launch.listening import Listening
from services.engine.launch.pidfile import StillRunning, directory_lock, pid_file
from services.protocol import settings as settings_file
from services.protocol.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 after an orderly stop, 1 when the daemon could not be started."""
    arguments = tuple(sys.argv[1:] if argv is None else argv)
    try:
        call = invocation(arguments)
    except UsageError as error:
        return _fail(f"{error}\nSee 'wharfd --help'.")
    except ConfigError as error:
        return _fail(str(error))
    if call.action == "help":
        print(usage())
    elif call.action == "version":
        print(version())
    elif call.action == "validate":
        print("configuration OK", file=sys.stderr)
    else:
        return _run(call.settings, arguments)
    return 0


def _fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


def _run(settings: Settings, argv: Sequence[str]) -> int:
    if reason := host.problem():
        return _fail(f"wharfd: {reason}")
    setproctitle("wharfd")
    os.umask(0o022)
    _raise_file_limit()
    try:
        with contextlib.ExitStack() as held:
            _prepare(settings, held)
            configuration = _write_tree(settings)
            listening = held.enter_context(contextlib.closing(Listening(settings.hosts)))
            return supervise.run(configuration, listening, lambda: _reload(settings, argv))
    except StillRunning as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"failed to start daemon: {error}")


def _prepare(settings: Settings, held: contextlib.ExitStack) -> None:
    """Directories and locks: this daemon is the only one of its exec root and data root."""
    os.makedirs(settings.exec_root, mode=0o711, exist_ok=True)
    os.makedirs(settings.data_root, mode=0o710, exist_ok=True)
    held.enter_context(pid_file(Path(settings.pidfile)))
    held.enter_context(directory_lock(Path(settings.exec_root)))
    held.enter_context(directory_lock(Path(settings.data_root)))


def _write_tree(settings: Settings) -> Path:
    settings_file.write(msgspec.structs.replace(settings, supervisor=os.getpid()))
    tree.log_directory(settings).mkdir(mode=0o700, exist_ok=True)
    path = Path(settings.exec_root) / "supervisor.conf"
    path.write_text(tree.configuration(settings), "utf-8")
    return path


def _raise_file_limit() -> None:
    """A daemon with a thousand followers needs as many descriptors as the host grants."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _reload(running: Settings, argv: Sequence[str]) -> None:
    """Write the settings anew, with the reloadable options as the configuration file has them now.

    A file that is wrong changes nothing.
    """
    try:
        merged = invocation(argv).settings
        changes = {
            option.field: getattr(merged, option.field)
            for option in OPTIONS
            if option.field and option.reloadable
        }
        settings_file.write(msgspec.structs.replace(running, supervisor=os.getpid(), **changes))
    except (ConfigError, UsageError, OSError) as error:
        print(f"wharfd: the configuration was not reloaded: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
