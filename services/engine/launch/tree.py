"""The process tree of one daemon as a supervisor configuration.

``supervisor.conf`` at the top of the source tree is the same tree with fixed paths. Programs are
started together: each waits by itself for what it needs. They are stopped in the reverse order of
their priorities, one after the other.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from services.protocol.paths import ExecRoot
from services.protocol.settings import Settings

#: Seconds that a service gets beyond what it waits for on purpose.
_MARGIN = 10
#: ``stopwaitsecs`` of a daemon that waits for its containers for ever.
_FOR_EVER = 10**7
_LOG_BYTES = 5_000_000
#: Docstrings and assertions are for those who read and test the code: without them the services take
#: 7 MB less. ``make venv`` compiles for it, into the virtual environment. Containers do not see this.
_INTERPRETER = f'PYTHONUNBUFFERED="1",PYTHONOPTIMIZE="2",PYTHONPYCACHEPREFIX="{Path(sys.prefix) / "pycache"}"'


@dataclass(frozen=True)
class Program:
    """One service. ``stop_seconds``: what it may take to end after SIGTERM, then SIGKILL."""

    name: str
    module: str
    priority: int
    stop_seconds: int


def programs(settings: Settings) -> tuple[Program, ...]:
    timeout = settings.shutdown_timeout
    engine_stop = timeout + _MARGIN if timeout >= 0 else _FOR_EVER
    return (
        Program("containerd-shim", "services.containerd_shim.main", 10, _MARGIN),
        Program("engine", "services.engine.main", 20, engine_stop),
        Program("apiserver", "services.apiserver.main", 30, _MARGIN),
    )


def log_directory(settings: Settings) -> Path:
    return Path(settings.exec_root) / "log"


def configuration(settings: Settings, python: str = sys.executable) -> str:
    """Text of the configuration file."""
    root = ExecRoot(Path(settings.exec_root))
    sections = [_supervisord(settings, root)]
    sections += [_program(program, settings, python) for program in programs(settings)]
    return "\n".join(sections)


def _supervisord(settings: Settings, root: ExecRoot) -> str:
    log = log_directory(settings)
    return f"""\
[supervisord]
nodaemon=true
silent=true
user=root
umask=022
logfile={_value(log / "supervisord.log")}
logfile_maxbytes={_LOG_BYTES}
logfile_backups=1
pidfile={_value(root.root / "supervisord.pid")}
identifier=wharfd
nocleanup=true

[unix_http_server]
file={_value(root.supervisor_socket)}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{_value(root.supervisor_socket)}
"""


def _program(program: Program, settings: Settings, python: str) -> str:
    log = log_directory(settings) / f"{program.name}.log"
    return f"""\
[program:{program.name}]
command="{_value(python)}" -m {program.module} --exec-root "{_value(settings.exec_root)}"
priority={program.priority}
autorestart=true
startsecs=1
startretries=1000000
stopwaitsecs={program.stop_seconds}
stopasgroup=false
killasgroup=false
redirect_stderr=true
stdout_logfile={_value(log)}
stdout_logfile_maxbytes={_LOG_BYTES}
stdout_logfile_backups=1
stdout_events_enabled=true
environment=WHARFD_EXEC_ROOT="{_value(settings.exec_root)}",{_INTERPRETER}
"""


def _value(text: object) -> str:
    """*text* in a supervisor configuration, where ``%`` begins an expansion."""
    return str(text).replace("%", "%%")
