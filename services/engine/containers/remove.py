"""Removing a container.

The removal is one commit: the container's row goes first, then what it held. A crash in between
leaves layers, directories and endpoints of a container that nobody knows, which ``restore`` sweeps.
Only anonymous volumes cannot be told from volumes that are to stay. Where those are to be removed,
the container is first marked as being removed, its volumes go, then its row; ``restore`` takes a
removal up again that was interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable

from services.engine.containers import image_mounts, stop, transitions
from services.engine.containers.announce import announce
from services.engine.containers.links import remove_link
from services.engine.containers.model import Entry, MountKind, Status
from services.engine.containers.mounts import release_mounts
from services.engine.containers.services import Services
from services.engine.containers.wait import is_gone
from services.protocol.errors import Conflict, NotFound, SystemError_, WharfError

log = logging.getLogger(__name__)


async def remove_request(
    services: Services, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False
) -> None:
    """``docker rm``."""
    if link:
        await remove_link(services.registry, ref)
        return
    entry = services.registry.get(ref)
    await remove(services, entry, force=force, volumes=volumes, ref=ref)


async def remove(
    services: Services, entry: Entry, *, force: bool = False, volumes: bool = False, ref: str = ""
) -> None:
    """Raises ``Conflict`` when it runs (without *force*) or when somebody else removes it.

    *volumes*: its anonymous volumes go, too.
    """
    if entry.runtime.removal_in_progress:
        raise Conflict(f"removal of container {ref or entry.id} is already in progress")
    entry.runtime.removal_in_progress = True
    try:
        if not force:
            transitions.check_remove(entry.state, ref or entry.definition.name)
        while not await _try(services, entry, volumes=volumes):
            if not force:
                transitions.check_remove(entry.state, ref or entry.definition.name)
            await _kill(services, entry)
    finally:
        entry.runtime.removal_in_progress = False


async def _try(services: Services, entry: Entry, *, volumes: bool) -> bool:
    """Remove it unless it runs: a start may have been faster than the removal."""
    async with entry.runtime.lock:
        if transitions.is_active(entry.state):
            return False
        if not is_gone(services, entry):
            await _destroy(services, entry, volumes=volumes)
        return True


async def _kill(services: Services, entry: Entry) -> None:
    try:
        await stop.kill(services, entry)
    except Conflict:
        await asyncio.sleep(0)  # it exited by itself
    except WharfError as error:
        raise SystemError_(
            f'cannot remove container "{entry.definition.name}": could not kill: {error}'
        ) from error


async def finish(services: Services, entry: Entry) -> None:
    """Take up a removal that a crash interrupted (status ``removing``: its volumes go, too)."""
    async with entry.runtime.lock:
        await _destroy(services, entry, volumes=True)


async def _destroy(services: Services, entry: Entry, *, volumes: bool) -> None:
    if volumes and (doomed := _anonymous_volumes(services, entry)):
        await _remove_volumes(services, entry, doomed)
    await services.registry.remove(entry)
    # For who waits for the lock: what is gone is not started, joined or renamed.
    entry.state = transitions.removing(entry.state)
    services.execs.forget(entry)
    await _release(services, entry)
    await asyncio.gather(
        _logged(entry, "its layer", services.layers.remove(entry.id)),
        _logged(entry, "its images", image_mounts.give_back(services, entry)),
        _logged(entry, "its directory", _remove_directory(services, entry)),
    )
    announce(services, entry, "destroy")
    entry.runtime.gone = True
    entry.runtime.notify()


async def _release(services: Services, entry: Entry) -> None:
    await asyncio.gather(
        _logged(entry, "its shim", _end_shim(services, entry)),
        _logged(entry, "its network", services.networks.detach(entry.id)),
        _logged(entry, "its volumes", release_mounts(services, entry)),
    )


async def _remove_volumes(services: Services, entry: Entry, names: list[str]) -> None:
    if entry.state.status is not Status.REMOVING:
        entry.state = transitions.removing(entry.state)
        await services.registry.save_state(entry)
    await _release(services, entry)
    for name in names:
        await _logged(entry, f"volume {name}", _remove_volume(services, name))


async def _remove_volume(services: Services, name: str) -> None:
    with contextlib.suppress(NotFound, Conflict):  # removed before a crash, or in use by another
        await services.volumes.remove(name)


def _anonymous_volumes(services: Services, entry: Entry) -> list[str]:
    return [
        mount.name
        for mount in entry.definition.mounts
        if mount.kind is MountKind.VOLUME and mount.name and services.volumes.is_anonymous(mount.name)
    ]


async def _end_shim(services: Services, entry: Entry) -> None:
    """A shim that was prepared for an attach and never used, or the rest of a failed start."""
    directory = services.exec_root.shim_dir(entry.id)
    if directory.exists():
        with contextlib.suppress(NotFound):
            await services.shims.delete(entry.id, kill=True)
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _remove_directory(services: Services, entry: Entry) -> None:
    directory = services.container_dir(entry.id)
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


async def _logged(entry: Entry, what: str, awaitable: Awaitable[None]) -> None:
    """The container is gone already: what cannot be freed now is freed at the next start."""
    try:
        await awaitable
    except Exception:
        log.exception("removing container %s: %s could not be freed", entry.id, what)
