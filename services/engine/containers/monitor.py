"""What the shims tell: exits, out-of-memory kills, detached clients; made true in state and events.

Every event may come again (after a reconnect, or after a restart of the engine, all that has not
been deleted is sent anew), so each handler first looks whether it is still news. The order is
state, event, acknowledgement: a task is deleted at the shim only when its exit is on disk.

Handlers run as tasks of their own under the container's lock, which is fair: events of one container
are handled in order, and a slow one holds up nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Coroutine
from typing import Any

from services.engine.containers import execs, health, restart, transitions
from services.engine.containers.announce import announce
from services.engine.containers.model import Entry
from services.engine.containers.mounts import release_mounts
from services.engine.containers.remove import remove
from services.engine.containers.services import Services
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, NotFound, Unavailable

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000


async def run(services: Services) -> None:
    """Follow the task service's events until cancelled."""

    async def handle(envelope: pb.Envelope) -> None:
        entry = services.registry.find(envelope.id)
        if entry is None:
            return  # restore deletes tasks of containers that are not known
        if (work := _work(services, entry, envelope)) is not None:
            kind = envelope.WhichOneof("event")
            services.background.spawn(work, name=f"{kind} {entry.id[:12]}")

    await services.shims.events(handle)


def _work(services: Services, entry: Entry, envelope: pb.Envelope) -> Coroutine[Any, Any, None] | None:
    match envelope.WhichOneof("event"):
        case "exit":
            if envelope.exit.exec_id:
                return _exec_exited(services, entry, envelope.exit)
            return task_exited(services, entry, envelope.exit)
        case "oom":
            return _out_of_memory(services, entry)
        case "exec_started":
            return _exec_started(services, entry, envelope.exec_started)
        case "detached":
            return _detached(services, entry, envelope.detached.exec_id)
        case "idle":
            return _idle(services, entry)
        case "shim_lost":
            return _shim_lost(services, entry)
        case _:
            return None


async def task_exited(services: Services, entry: Entry, exit_: pb.TaskExit) -> None:
    """Init is gone, its output is logged: end the run, then decide what follows."""
    async with entry.runtime.lock:
        if not transitions.has_task(entry.state) or entry.state.pid != exit_.pid:
            await _acknowledge_stale(services, entry, exit_)
            return
        delay = await _record_exit(services, entry, exit_)
        await _acknowledge(services, entry)
    if delay is not None:
        restart.schedule(services, entry, delay)
    elif entry.state.auto_remove_pending:
        await auto_remove(services, entry)


async def _record_exit(services: Services, entry: Entry, exit_: pb.TaskExit) -> float | None:
    """Free what the run held, write how it ended; returns the pause before the next run, if any."""
    health.stop(entry)
    state = entry.state
    exited_at = exit_.exited_at or time.time_ns()
    ran_for = max(0.0, (exited_at - state.started_at) / _SECOND)
    delay = restart.delay_after(
        restart.Exit(
            exit_code=exit_.exit_status,
            ran_for=ran_for,
            restart_count=state.restart_count,
            last_delay=entry.runtime.restart_delay,
            stop_requested=entry.runtime.stop_requested,
            manually_stopped=state.manually_stopped,
        ),
        entry.definition.host_config.restart_policy,
    )
    # Ports and volumes are free before anybody hears of the exit and uses them again.
    await asyncio.gather(
        _logged(entry, "network", services.networks.detach(entry.id)),
        _logged(entry, "volumes", release_mounts(services, entry)),
    )
    await execs.task_ended(services, entry)
    ending = transitions.Ending(
        exit_code=exit_.exit_status, finished_at=exited_at, oom_killed=exit_.oom_killed
    )
    if delay is not None:
        entry.state = transitions.restarting(state, ending)
    else:
        auto = entry.definition.host_config.auto_remove
        entry.state = transitions.exited(state, ending, auto_remove=auto)
    entry.runtime.exits += 1
    await services.registry.save_state(entry)
    announce(services, entry, "die", exitCode=str(exit_.exit_status), execDuration=str(int(ran_for)))
    return delay


async def _acknowledge(services: Services, entry: Entry) -> None:
    """What follows an exit happens all the same: a shim that cannot be told goes with the container."""
    try:
        with contextlib.suppress(NotFound):
            await services.shims.delete(entry.id)
    except Unavailable as error:
        log.warning("the shim of container %s has not ended: %s", entry.id, error)
        return
    directory = services.exec_root.shim_dir(entry.id)
    if directory.exists():  # an exec's end was recorded there while the shim removed it
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _acknowledge_stale(services: Services, entry: Entry, exit_: pb.TaskExit) -> None:
    """An exit that is on disk already; a newer run's shim must not be deleted for it."""
    with contextlib.suppress(NotFound):
        task = await services.shims.state(entry.id)
        if task.status == pb.STOPPED and task.pid == exit_.pid:
            await services.shims.delete(entry.id)


async def auto_remove(services: Services, entry: Entry) -> None:
    """``--rm``. Somebody else's removal is as good."""
    with contextlib.suppress(Conflict):
        await remove(services, entry, force=True, volumes=True)


async def _shim_lost(services: Services, entry: Entry) -> None:
    """The shim was killed and its container with it, unless that had ended and its exit is on record."""
    if transitions.has_task(entry.state):
        await task_exited(services, entry, await _how_it_ended(services, entry))
        return
    async with entry.runtime.lock:  # it was prepared for an attach; the next start forks another
        if not transitions.has_task(entry.state):
            await _acknowledge(services, entry)


async def _how_it_ended(services: Services, entry: Entry) -> pb.TaskExit:
    pid = entry.state.pid
    with contextlib.suppress(NotFound, Unavailable):
        task = await services.shims.state(entry.id)
        if task.status == pb.STOPPED and task.pid == pid:
            return pb.TaskExit(
                pid=pid,
                exit_status=task.exit_status,
                exited_at=task.exited_at,
                oom_killed=task.oom_killed,
            )
    return pb.TaskExit(pid=pid, exit_status=transitions.LOST_WITH_SHIM, exited_at=time.time_ns())


async def _exec_exited(services: Services, entry: Entry, exit_: pb.TaskExit) -> None:
    if (exec_ := services.execs.find(exit_.exec_id)) is not None:
        await execs.exited(services, entry, exec_, exit_.exit_status, ran=exit_.pid > 0)


async def _exec_started(services: Services, entry: Entry, started: pb.TaskExecStarted) -> None:
    exec_ = services.execs.find(started.exec_id)
    if exec_ is not None and exec_.exit_code is None and exec_.pid != started.pid:
        exec_.pid = started.pid
        services.execs.save(exec_)
        entry.runtime.notify()


async def _idle(services: Services, entry: Entry) -> None:
    """Who attached to a container before its start has gone: its shim is not kept for that alone."""
    async with entry.runtime.lock:
        if not transitions.has_task(entry.state):
            with contextlib.suppress(NotFound, Conflict):  # somebody attaches just now
                await services.shims.delete(entry.id, idle=True)
                entry.runtime.log_failure = None


async def _detached(services: Services, entry: Entry, exec_id: str) -> None:
    if exec_id:
        announce(services, entry, "exec_detach", execID=exec_id)
    else:
        announce(services, entry, "detach")


async def _out_of_memory(services: Services, entry: Entry) -> None:
    async with entry.runtime.lock:
        if transitions.has_task(entry.state) and not entry.state.oom_killed:
            entry.state = transitions.replace(entry.state, oom_killed=True)
            await services.registry.save_state(entry)
            announce(services, entry, "oom")


async def _logged(entry: Entry, what: str, awaitable: Awaitable[None]) -> None:
    """An exit is an exit although something of the container could not be freed."""
    try:
        await awaitable
    except Exception:
        log.exception("container %s has exited; its %s could not be freed", entry.id, what)
