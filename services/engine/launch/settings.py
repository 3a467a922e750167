"""One-shot program of ``supervisor.conf``: writes the settings that the services wait for.

Takes the daemon's command line, as ``wharfd`` does. The services find supervisord's socket in
the exec root, wherever its configuration has put it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.engine.config.file import ConfigError
from services.engine.config.flags import UsageError
from services.engine.config.load import invocation
from services.engine.launch import host
from services.protocol import settings as settings_file
from services.protocol.paths import ExecRoot


def main(argv: Sequence[str] | None = None) -> int:
    try:
        settings = invocation(sys.argv[1:] if argv is None else argv).settings
    except (ConfigError, UsageError) as error:
        print(error, file=sys.stderr)
        return 1
    if reason := host.problem():
        print(f"wharfd: {reason}", file=sys.stderr)
        return 1
    os.makedirs(settings.exec_root, mode=0o711, exist_ok=True)
    _link_supervisor(ExecRoot(Path(settings.exec_root)))
    settings_file.write(msgspec.structs.replace(settings, supervisor=os.getppid()))
    return 0


def _link_supervisor(root: ExecRoot) -> None:
    url = os.environ.get("SUPERVISOR_SERVER_URL", "")
    path = url.removeprefix("unix://")
    if path == url or path == str(root.supervisor_socket):
        return
    with contextlib.suppress(FileNotFoundError):
        root.supervisor_socket.unlink()
    root.supervisor_socket.symlink_to(path)


if __name__ == "__main__":
    sys.exit(main())
