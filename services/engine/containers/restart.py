"""Restart policies: whether an exited container is started again, and after how long.

The decision is a pure function; moby's ``restartmanager`` is the model: 100 ms doubled at each
restart up to a minute, forgotten when the container has run for ten seconds.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from services.engine.containers import start, stop, transitions
from services.engine.containers.announce import announce
from services.engine.containers.model import Entry, Status
from services.engine.containers.services import Services
from services.engine.scopes import shielded
from services.protocol.api.containers import RestartPolicy
from services.protocol.errors import NotModified, WharfError

log = logging.getLogger(__name__)

#: Seconds.
FIRST_DELAY, LONGEST_DELAY, GOOD_RUN = 0.1, 60.0, 10.0


@dataclass(frozen=True)
class Exit:
    """What a decision is made of. ``ran_for`` and ``last_delay`` in seconds.

    ``stop_requested``: it exited because this engine was asked to end it. ``manually_stopped``: a
    user has ended it at any time since its last start.
    """

    exit_code: int
    ran_for: float
    restart_count: int
    last_delay: float = 0.0
    stop_requested: bool = False
    manually_stopped: bool = False


def delay_after(ended: Exit, policy: RestartPolicy | None) -> float | None:
    """Seconds until the container is started again; None when it is not."""
    if ended.stop_requested or not _wants(ended, policy):
        return None
    if ended.ran_for >= GOOD_RUN or ended.last_delay == 0:
        return FIRST_DELAY
    return min(ended.last_delay * 2, LONGEST_DELAY)


def _wants(ended: Exit, policy: RestartPolicy | None) -> bool:
    match policy.name if policy is not None else "":
        case "always":
            return True
        case "unless-stopped":
            return not ended.manually_stopped
        case "on-failure":
            limit = policy.maximum_retry_count if policy is not None else 0
            return ended.exit_code != 0 and (limit == 0 or ended.restart_count < limit)
        case _:
            return False


def schedule(services: Services, entry: Entry, delay: float) -> None:
    """Start *entry* after *delay* seconds unless it is stopped or removed before."""
    entry.runtime.restart_delay = delay
    entry.runtime.restart_timer = services.background.spawn(
        _start_later(services, entry, delay), name=f"restart {entry.id[:12]}"
    )


async def _start_later(services: Services, entry: Entry, delay: float) -> None:
    await asyncio.sleep(delay)
    if entry.state.status is not Status.RESTARTING:
        return
    try:
        await start.start_by_policy(services, entry)
    except WharfError as error:
        log.warning("container %s could not be restarted: %s", entry.id, error)


async def restart(
    services: Services, entry: Entry, *, timeout: int | None = None, signal_name: str = ""
) -> None:
    """``docker restart``: stop if it runs, then start; ``--rm`` does not take the exit for the end."""
    await _spare(services, entry, True)
    try:
        await stop.stop(services, entry, timeout=timeout, signal_name=signal_name)
    except NotModified:
        pass
    except Exception:
        await shielded(_spare(services, entry, False))
        raise
    await start.start(services, entry)
    announce(services, entry, "restart")


async def _spare(services: Services, entry: Entry, spared: bool) -> None:
    """Recorded, for an engine that is killed before it starts the container again."""
    if not entry.definition.host_config.auto_remove:
        return
    async with entry.runtime.lock:
        if transitions.has_task(entry.state):
            entry.state = transitions.replace(entry.state, spared=spared)
            await services.registry.save_state(entry)
