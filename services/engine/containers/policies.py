"""Restart policies when the daemon starts.

They apply once for every start of the daemon, not for every start of the engine: an engine that was
killed or upgraded must not bring back containers that a user has stopped. A marker in the exec root
names the supervisor under which they were applied.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from services.engine.containers import start
from services.engine.containers.model import Entry, Status
from services.engine.containers.services import Services
from services.protocol.errors import NotModified, WharfError

log = logging.getLogger(__name__)

#: Containers started at the same time.
_AT_ONCE = 8


async def apply(services: Services) -> None:
    """Start what is to run after a start of the daemon; containers that join others come last."""
    marker, current = services.exec_root.root / "policies.applied", _daemon(services)
    if current and _read(marker) == current:
        return
    due = [entry for entry in services.registry if wants_start(entry)]
    joining = [entry for entry in due if _joins(entry)]
    await _start_all(services, [entry for entry in due if not _joins(entry)])
    await _start_all(services, joining)
    marker.write_text(current)


def wants_start(entry: Entry) -> bool:
    """dockerd's rule at boot; ``always`` means even what was stopped by hand."""
    state, policy = entry.state, entry.definition.host_config.restart_policy
    if state.status is not Status.EXITED or policy is None or state.auto_remove_pending:
        return False
    match policy.name:
        case "always":
            return True
        case "unless-stopped":
            return not state.manually_stopped
        case "on-failure":
            limit = policy.maximum_retry_count
            return state.exit_code != 0 and (limit == 0 or state.restart_count < limit)
        case _:
            return False


def _joins(entry: Entry) -> bool:
    host = entry.definition.host_config
    return any(mode.startswith("container:") for mode in (host.network_mode, host.ipc_mode, host.pid_mode))


async def _start_all(services: Services, entries: list[Entry]) -> None:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(entry: Entry) -> None:
        async with limit:
            try:
                await start.start(services, entry)
            except NotModified:
                pass
            except WharfError as error:
                log.warning("container %s could not be started: %s", entry.id, error)

    await asyncio.gather(*(one(entry) for entry in entries))


def _daemon(services: Services) -> str:
    """The daemon as its supervisor's pid and start time; "" when the engine runs by hand."""
    if not services.settings.supervisor:
        return ""
    pid = services.settings.supervisor
    try:
        # Field 22, after the parenthesised name (proc(5)).
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
    return f"{pid} {started} {_read(Path('/proc/sys/kernel/random/boot_id'))}"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
