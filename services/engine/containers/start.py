"""Starting a container: network, mounts, OCI document, shim, task; undone in reverse on any error.

What is independent runs at the same time: the shim is forked while addresses are allocated and
files are written, and the sandbox is recorded while the runtime builds the namespaces.

A crash anywhere in here leaves a task that is not recorded as running, or no task: ``restore``
adopts or deletes it, and the services free what the container held.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from services.engine.containers import etc, health, transitions
from services.engine.containers.announce import announce
from services.engine.containers.execs import NOT_RUNNABLE
from services.engine.containers.model import Entry, Status
from services.engine.containers.mounts import prepare_mounts
from services.engine.containers.networking import has_sandbox, sandbox_request
from services.engine.containers.prepared import ensure_shim
from services.engine.containers.remove import remove
from services.engine.containers.services import Services
from services.engine.containers.spec import ROOTFS, build_spec
from services.engine.containers.spec_exec import user_ref
from services.engine.containers.spec_namespaces import network_owner
from services.engine.contracts import Sandbox
from services.engine.scopes import Undo
from services.engine.shims import ATTEMPTS
from services.protocol import oci
from services.protocol import task_pb2 as pb
from services.protocol.errors import (
    Conflict,
    InvalidParameter,
    NotFound,
    SystemError_,
    Unavailable,
    WharfError,
)

T = TypeVar("T")
U = TypeVar("U")


async def start(services: Services, entry: Entry) -> None:
    """At a user's request. Raises ``NotModified`` when it runs already."""
    transitions.check_start(entry.state)
    await _start(services, entry, by_policy=False)


async def start_by_policy(services: Services, entry: Entry) -> None:
    """The next run of a container whose restart is due; nothing if that is not so any more."""
    await _start(services, entry, by_policy=True)


async def _start(services: Services, entry: Entry, *, by_policy: bool) -> None:
    async with entry.runtime.lock:
        if by_policy and entry.state.status is not Status.RESTARTING:
            return
        if services.stopping:
            raise Unavailable("the daemon is stopping")
        if not by_policy:
            transitions.check_start(entry.state)
            entry.runtime.restart_delay = 0.0
            entry.state = transitions.manually_started(entry.state)
        entry.runtime.restart_timer = None
        entry.runtime.stop_requested = False
        failure = await _run_or_record(services, entry)
    if failure is not None:
        if entry.definition.host_config.auto_remove:
            with contextlib.suppress(Conflict):  # somebody else removes it
                await remove(services, entry, force=True, volumes=True)
        raise failure


async def _run_or_record(services: Services, entry: Entry) -> WharfError | None:
    """Run it; a failure is recorded in the state and returned as the user reads it."""
    try:
        await _run(services, entry)
    except Exception as error:
        failure = _as_told(error)
        entry.state = transitions.start_failed(
            entry.state, message=str(failure), exit_code=failure.exit_code, now=time.time_ns()
        )
        await services.registry.save_state(entry)
        return failure
    return None


async def _run(services: Services, entry: Entry) -> None:
    async with Undo() as undo:
        spec = await _prepare(services, entry, undo)
        request = _create_request(services, entry, spec)
        pid, _ = await _both(_create_task(services, request), services.registry.save(entry))
        network = None
        if has_sandbox(entry):
            network = await _network(services.networks.attach(entry.id, pid))
        started = await _start_task(services, pb.StartRequest(id=entry.id, network=network))
        entry.state = transitions.running(
            entry.state,
            pid=started.pid or pid,
            started_at=started.started_at or time.time_ns(),
            health=health.initial(entry),
        )
        if entry.state.sandbox_id:
            entry.state = transitions.replace(entry.state, sandbox_key=f"/proc/{entry.state.pid}/ns/net")
        await services.registry.save_state(entry)
        undo.keep()
    announce(services, entry, "start")
    health.watch(services, entry)


async def _prepare(services: Services, entry: Entry, undo: Undo) -> oci.Spec:
    """Fork the shim and, meanwhile, make all that ``config.json`` is written from."""
    try:
        _, spec = await _both(ensure_shim(services, entry), _acquire(services, entry, undo))
    finally:
        # Pushed last: the task goes before the network and the volumes it uses.
        undo.push(lambda: _drop_task(services, entry))
    return spec


async def _acquire(services: Services, entry: Entry, undo: Undo) -> oci.Spec:
    if has_sandbox(entry):
        undo.push(lambda: services.networks.detach(entry.id))
        sandbox, files = await _network(services.networks.allocate(sandbox_request(services.registry, entry)))
        _record(entry, sandbox)
        etc.write_files(services, entry, files)
    else:
        await _take_hostname(services, entry)
    mounts, release = await prepare_mounts(services, entry)
    undo.push(release)
    return build_spec(services, entry, mounts=mounts)


async def _take_hostname(services: Services, entry: Entry) -> None:
    """Who joins another container's network is known by its name there."""
    owner = network_owner(services.registry, entry.definition)
    if owner is None:
        return
    ours, theirs = entry.definition.config, owner.definition.config
    if (ours.hostname, ours.domainname) != (theirs.hostname, theirs.domainname):
        ours.hostname, ours.domainname = theirs.hostname, theirs.domainname
        await services.registry.save_definition(entry)


def _record(entry: Entry, sandbox: Sandbox) -> None:
    """From now on the container knows its networks by id: a namesake is another network."""
    entry.definition.endpoints = sandbox.requested
    entry.state = transitions.replace(
        entry.state,
        sandbox_id=sandbox.sandbox_id,
        sandbox_key=sandbox.sandbox_key,
        endpoints=sandbox.endpoints,
        ports=sandbox.ports,
    )


def _create_request(services: Services, entry: Entry, spec: oci.Spec) -> pb.CreateTaskRequest:
    bundle = services.exec_root.shim_dir(entry.id)
    (bundle / "rootfs").mkdir(mode=0o700, exist_ok=True)  # where the runtime mounts the root
    temporary = bundle / "config.json.new"
    temporary.write_bytes(msgspec.json.encode(spec))
    os.replace(temporary, bundle / "config.json")
    # Nothing is mounted here but in the container's own mount namespace.
    (bundle / ROOTFS).mkdir(mode=0o700, exist_ok=True)
    size = entry.definition.host_config.console_size or [0, 0]
    return pb.CreateTaskRequest(
        id=entry.id,
        bundle=str(bundle),
        rootfs=services.layers.mounts(entry.id),
        user=user_ref(entry),
        console_height=size[0],
        console_width=size[1],
    )


async def _drop_task(services: Services, entry: Entry) -> None:
    entry.runtime.log_failure = None
    with contextlib.suppress(NotFound):
        await services.shims.delete(entry.id, kill=True)


async def _network(awaitable: Awaitable[T]) -> T:
    try:
        return await awaitable
    except WharfError as error:
        raise type(error)(f"failed to set up container networking: {error}") from error


async def _create_task(services: Services, request: pb.CreateTaskRequest) -> int:
    """Pid of the created init.

    It may be there already: a restarted engine goes on with what it left half-way, and a task
    service that went away may have passed the call on before it could answer.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return (await services.shims.create(request)).pid
        except (Conflict, Unavailable) as error:
            task = await services.shims.state(request.id)
            if task.status == pb.CREATED:
                return task.pid
            if task.status != pb.PREPARED or isinstance(error, Conflict):
                raise
    return (await services.shims.create(request)).pid


async def _start_task(services: Services, request: pb.StartRequest) -> pb.StartResponse:
    for _ in range(ATTEMPTS - 1):
        try:
            return await services.shims.start(request)
        except Unavailable:
            task = await services.shims.state(request.id)
            if task.started_at:
                return pb.StartResponse(pid=task.pid, started_at=task.started_at)
            if task.status != pb.CREATED:
                raise
    return await services.shims.start(request)


async def _both(first: Awaitable[T], second: Awaitable[U]) -> tuple[T, U]:
    """Both at the same time, both to their end; the first error is raised then.

    Unlike a task group this never leaves an acquisition half-way, so each has its release.
    """
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    for result in (other, one):
        if isinstance(result, BaseException):
            raise result
    return one, other  # type: ignore[return-value]


def _as_told(error: Exception) -> WharfError:
    """The error with the words that dockerd and containerd put before the runtime's."""
    if not isinstance(error, WharfError):
        return SystemError_(str(error) or type(error).__name__)
    text = str(error)
    if text.startswith("OCI runtime"):
        text = f"failed to create task for container: failed to create shim task: {text}"
    elif text.startswith("failed to initialize logging driver"):
        text = f"failed to create task for container: {text}"
    kind = InvalidParameter if error.exit_code in NOT_RUNNABLE else type(error)
    return kind(text, exit_code=error.exit_code)
