"""The end of the daemon: its containers are stopped first, unless they are to live on."""

from __future__ import annotations

import asyncio
import logging

from services.engine.containers import stop, transitions
from services.engine.containers.model import Entry, Status
from services.engine.containers.services import Services
from services.protocol import task_pb2 as pb
from services.protocol.errors import WharfError

log = logging.getLogger(__name__)

#: Seconds of the shutdown that are left for SIGKILL and for recording the exits.
_RESERVE = 3.0


async def shutdown(services: Services, timeout: float) -> None:
    """Stop all containers side by side, within *timeout* seconds (negative: however long it takes).

    The restart policies of what is stopped here hold at the next start of the daemon.
    """
    if services.settings.live_restore:
        return
    active = [entry for entry in services.registry if transitions.is_active(entry.state)]
    for entry in active:
        entry.runtime.stop_requested = True
        if (timer := entry.runtime.restart_timer) is not None:
            timer.cancel()
    await asyncio.gather(*(_end(services, entry, timeout) for entry in active))
    await _end_prepared(services)


async def _end(services: Services, entry: Entry, timeout: float) -> None:
    if entry.state.status is Status.RESTARTING:
        return  # nothing runs; it is restarted by the next daemon
    seconds = float(stop.stop_timeout(services, entry))
    if timeout >= 0:
        bound = max(0.0, timeout - _RESERVE)
        seconds = bound if seconds < 0 else min(seconds, bound)
    try:
        await stop.end(services, entry, stop.stop_signal(entry), seconds, by_user=False)
    except WharfError as error:
        if transitions.has_task(entry.state):
            log.error("container %s could not be stopped: %s", entry.id, error)
    async with entry.runtime.lock:
        pass  # its exit has been handled to the end


async def _end_prepared(services: Services) -> None:
    """Shims that were forked for an attach and whose container was never started."""
    for task in await services.shims.tasks():
        if task.status in (pb.PREPARED, pb.CREATED):
            try:
                await services.shims.delete(task.id, kill=True)
            except WharfError as error:
                log.warning("shim of %s could not be ended: %s", task.id, error)
