"""Start-up: the records made true by what the shims say; the networks' by ``networks/halfway``.

======================  ===========================  ============================================
task at the shim        recorded                     done
======================  ===========================  ============================================
running, paused         running, paused              adopted: pid, execs, health checks, volumes
running, paused         anything else                a start was not recorded: adopted, ``start``
stopped                 running, paused              the exit is handled as if it came now
stopped, has run        not running, older exit      start and exit were not recorded: both now
stopped                 anything else                the exit is on record: deleted
created                 anything                     a start was cut short: a repeated request
                                                     goes on with it, else deleted after a while
prepared                not running                  kept: a client may be attached
none                    running, paused              exited with 255, as dockerd after a reboot
any                     removing                     the removal is finished
any                     no such container            killed and deleted
======================  ===========================  ============================================
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from pathlib import Path

from services.engine.containers import (
    health,
    image_mounts,
    monitor,
    policies,
    remove,
    rename,
    restart,
    transitions,
)
from services.engine.containers.announce import announce
from services.engine.containers.model import Entry, MountKind, Status
from services.engine.containers.services import Services
from services.engine.containers.volumes_create import noted, settle
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, NotFound, WharfError

log = logging.getLogger(__name__)

#: Seconds that the rest of a start waits for the request to come again.
CUT_SHORT = 5.0

_LIVE = (pb.RUNNING, pb.PAUSED)


async def restore(services: Services) -> None:
    """Before requests are served; from here on the shims' events are followed."""
    for entry in services.registry:
        image_mounts.adopt(services, entry)
    await services.shims.ready()
    tasks = {task.id: task for task in await services.shims.tasks()}
    await _delete_strangers(services, tasks)
    live = {
        entry.id: tasks[entry.id].pid
        for entry in services.registry
        if entry.id in tasks and tasks[entry.id].status in _LIVE and entry.state.status is not Status.REMOVING
    }
    ports = await services.networks.restore(live)
    for entry in services.registry:
        if entry.state.sandbox_id and entry.id in ports:
            entry.state = transitions.replace(entry.state, ports=ports[entry.id])
    await asyncio.gather(*(_restore(services, entry, tasks.get(entry.id)) for entry in services.registry))
    await services.layers.sweep({entry.id for entry in services.registry})
    await _sweep(services, tasks)
    services.background.spawn(monitor.run(services), name="monitor")
    services.background.spawn(policies.apply(services), name="restart policies")


async def _restore(services: Services, entry: Entry, task: pb.StateResponse | None) -> None:
    """One container; a failure is that container's own."""
    try:
        settle(services.container_dir(entry.id))
        if entry.state.status is Status.REMOVING:
            await remove.finish(services, entry)
        elif task is None:
            await _without_task(services, entry)
        elif task.status in _LIVE:
            await _adopt(services, entry, task)
        elif task.status == pb.STOPPED:
            await _stopped(services, entry, task)
        else:
            await _unstarted(services, entry, task)
        await _leftovers(services, entry)
    except Exception:
        log.exception("container %s could not be restored", entry.id)


async def _adopt(services: Services, entry: Entry, task: pb.StateResponse) -> None:
    recorded = transitions.has_task(entry.state) and entry.state.pid == task.pid
    if not recorded:
        await _record_start(services, entry, task)
    await _adopt_state(services, entry, paused=task.status == pb.PAUSED)
    services.execs.load(entry)
    health.watch(services, entry)
    for mount in entry.definition.mounts:
        if mount.kind is MountKind.VOLUME and mount.name:
            try:
                await services.volumes.mount(mount.name, entry.id)
            except WharfError as error:
                log.error("container %s runs without its volume: %s", entry.id, error)
    await rename.tell(services, entry)


async def _adopt_state(services: Services, entry: Entry, *, paused: bool) -> None:
    state = entry.state
    if paused and state.held_for_commit:
        with contextlib.suppress(Conflict, NotFound):  # it has ended just now
            await services.shims.resume(entry.id)
        announce(services, entry, "unpause")
        paused = False
    if (state.status is Status.PAUSED) != paused:
        state = transitions.paused(state) if paused else transitions.unpaused(state)
    # A commit or a restart that was cut off begins anew if it comes again.
    state = transitions.replace(state, held_for_commit=False, spared=False)
    if state != entry.state:
        entry.state = state
        await services.registry.save_state(entry)


async def _record_start(services: Services, entry: Entry, task: pb.StateResponse) -> None:
    if transitions.has_task(entry.state):  # an exit in between was not recorded either
        entry.state = transitions.exited(
            entry.state,
            transitions.Ending(exit_code=transitions.LOST_AT_REBOOT, finished_at=task.started_at),
        )
    entry.state = transitions.running(
        entry.state,
        pid=task.pid,
        started_at=task.started_at or time.time_ns(),
        health=health.initial(entry),
    )
    await services.registry.save_state(entry)
    announce(services, entry, "start")


async def _stopped(services: Services, entry: Entry, task: pb.StateResponse) -> None:
    unrecorded = task.started_at > max(entry.state.started_at, entry.state.finished_at)
    if unrecorded and not transitions.has_task(entry.state):
        await _record_start(services, entry, task)
    if transitions.has_task(entry.state):
        exit_ = pb.TaskExit(
            pid=entry.state.pid,
            exit_status=task.exit_status,
            exited_at=task.exited_at,
            oom_killed=task.oom_killed,
        )
        await monitor.task_exited(services, entry, exit_)
    else:
        # Whoever waited for it may not have been told.
        entry.runtime.exits += 1
        await _delete(services, entry.id)


async def _unstarted(services: Services, entry: Entry, task: pb.StateResponse) -> None:
    if transitions.has_task(entry.state):
        await _lost(services, entry)
    await _without_sandbox(services, entry)
    if task.status == pb.CREATED:
        services.background.spawn(_delete_later(services, entry), name=f"cut short {entry.id[:12]}")


async def _delete_later(services: Services, entry: Entry) -> None:
    await asyncio.sleep(CUT_SHORT)
    async with entry.runtime.lock:
        if not transitions.has_task(entry.state):
            await _delete(services, entry.id)


async def _without_task(services: Services, entry: Entry) -> None:
    if transitions.has_task(entry.state):
        await _lost(services, entry)
    await _without_sandbox(services, entry)


async def _without_sandbox(services: Services, entry: Entry) -> None:
    """A start records the addresses and ports before the run; cut short, the run never had them."""
    if entry.state.sandbox_id:
        entry.state = transitions.without_network(entry.state)
        await services.registry.save_state(entry)


async def _lost(services: Services, entry: Entry) -> None:
    """It ran when the record was written, and its end was seen by nobody."""
    ending = transitions.Ending(exit_code=transitions.LOST_AT_REBOOT, finished_at=time.time_ns())
    auto_remove = entry.definition.host_config.auto_remove
    entry.state = transitions.exited(entry.state, ending, auto_remove=auto_remove)
    entry.runtime.exits += 1
    await services.registry.save_state(entry)


async def _leftovers(services: Services, entry: Entry) -> None:
    """What an interrupted engine still owed to an exited container."""
    if entry.state.auto_remove_pending:
        await monitor.auto_remove(services, entry)
    elif entry.state.status is Status.RESTARTING and entry.runtime.restart_timer is None:
        restart.schedule(services, entry, restart.FIRST_DELAY)


async def _delete_strangers(services: Services, tasks: dict[str, pb.StateResponse]) -> None:
    """Tasks of containers whose removal (or create) was cut short."""
    strangers = [task_id for task_id in tasks if services.registry.find(task_id) is None]
    for outcome in await asyncio.gather(
        *(_delete(services, task_id) for task_id in strangers), return_exceptions=True
    ):
        if isinstance(outcome, Exception):
            log.error("a task of an unknown container could not be deleted", exc_info=outcome)


async def _delete(services: Services, container_id: str) -> None:
    with contextlib.suppress(NotFound):
        await services.shims.delete(container_id, kill=True)


async def _sweep(services: Services, tasks: dict[str, pb.StateResponse]) -> None:
    """Directories of containers whose create or removal was cut short, and their anonymous volumes."""
    for path in await asyncio.to_thread(_unknown, services.container_dir(""), services):
        for name in noted(path):
            try:
                await services.volumes.remove(name)
            except NotFound:
                pass
            except WharfError as error:
                log.error("a volume of a container that was never made is left: %s", error)
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
    for path in await asyncio.to_thread(_unknown, services.exec_root.shims, services):
        if path.name not in tasks:
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


def _unknown(root: Path, services: Services) -> list[Path]:
    try:
        return [path for path in root.iterdir() if services.registry.find(path.name) is None]
    except FileNotFoundError:
        return []
