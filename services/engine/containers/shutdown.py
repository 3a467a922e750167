"""The end of the daemon: its containers are stopped first, unless they are to live on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from services.engine.containers import stop, transitions
from services.engine.containers.model import Entry
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
    services.stopping = True
    bound = None if timeout < 0 else max(0.0, timeout - _RESERVE)
    await asyncio.gather(*(_end(services, entry, bound) for entry in services.registry))
    await _end_prepared(services)


async def _end(services: Services, entry: Entry, bound: float | None) -> None:
    entry.runtime.stop_requested = True
    if (timer := entry.runtime.restart_timer) is not None:
        timer.cancel()
    began = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(bound), entry.runtime.lock:
            pass  # a start that had begun has come to its end
    if not transitions.has_task(entry.state):
        return  # also between two runs: it is restarted by the next daemon
    seconds = float(stop.stop_timeout(services, entry))
    if bound is not None:
        left = max(0.0, began + bound - time.monotonic())
        seconds = left if seconds < 0 else min(seconds, left)
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
