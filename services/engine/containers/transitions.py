"""The states of a container and what leads from one to another: values only, no I/O.

::

    created --> running <--> paused
                 |  ^  \\       |
                 v  |   v      v
          restarting <- (exit) --> exited --> (running)
    any but running, paused, restarting --> removing --> gone (dead when that failed)

Each function takes a state and returns the next; none changes its argument. ``check_*`` raise what
the API answers when an operation is not possible in a state; the texts are dockerd's.
"""

from __future__ import annotations

import msgspec

from services.engine.containers.model import ContainerState, HealthState, Status
from services.protocol.errors import Conflict, NotModified, SystemError_

replace = msgspec.structs.replace

#: Where each status may lead. A failed start keeps the status and only records the error.
ALLOWED: dict[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.RUNNING, Status.EXITED, Status.REMOVING}),
    Status.RUNNING: frozenset({Status.PAUSED, Status.RESTARTING, Status.EXITED}),
    Status.PAUSED: frozenset({Status.RUNNING, Status.RESTARTING, Status.EXITED}),
    Status.RESTARTING: frozenset({Status.RUNNING, Status.EXITED}),
    Status.EXITED: frozenset({Status.RUNNING, Status.REMOVING}),
    Status.REMOVING: frozenset({Status.DEAD}),
    Status.DEAD: frozenset({Status.REMOVING}),
}

#: Statuses in which a task exists.
WITH_TASK = frozenset({Status.RUNNING, Status.PAUSED})
#: Statuses that the API calls running (``State.Running``): also between two runs.
ACTIVE = WITH_TASK | {Status.RESTARTING}

#: Exit codes of containers whose end nobody saw: found gone after a reboot, or killed with their shim.
LOST_AT_REBOOT, LOST_WITH_SHIM = 255, 137
#: Exit code of a container that could not be started and has none of its own.
START_FAILED = 128


class InvalidTransition(AssertionError):
    """A transition outside :data:`ALLOWED`: a bug, never an answer to a request."""

    def __init__(self, old: Status, new: Status) -> None:
        super().__init__(f"a container cannot go from {old} to {new}")


def _move(state: ContainerState, status: Status) -> ContainerState:
    if status not in ALLOWED[state.status]:
        raise InvalidTransition(state.status, status)
    return replace(state, status=status)


def running(
    state: ContainerState, *, pid: int, started_at: int, health: HealthState | None
) -> ContainerState:
    """The program has been executed."""
    return replace(
        _move(state, Status.RUNNING),
        pid=pid,
        started_at=started_at,
        exit_code=0,
        error="",
        oom_killed=False,
        has_been_started=True,
        auto_remove_pending=False,
        held_for_commit=False,
        spared=False,
        health=health,
    )


def start_failed(state: ContainerState, *, message: str, exit_code: int | None, now: int) -> ContainerState:
    """The container is as it was before, but knows why; a restarting one has exited for good."""
    code = exit_code if exit_code is not None else state.exit_code or START_FAILED
    state = without_network(replace(state, error=message, exit_code=code, pid=0))
    if state.status is Status.RESTARTING:
        state = replace(_move(state, Status.EXITED), finished_at=max(now, state.finished_at + 1))
    return state


def paused(state: ContainerState) -> ContainerState:
    return _unwatched(_move(state, Status.PAUSED))


def unpaused(state: ContainerState) -> ContainerState:
    return replace(_move(state, Status.RUNNING), held_for_commit=False)


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How the init process ended; ``finished_at`` in Unix nanoseconds."""

    exit_code: int
    finished_at: int
    oom_killed: bool = False


def exited(state: ContainerState, ending: Ending, *, auto_remove: bool = False) -> ContainerState:
    """The init process is gone and no policy brings it back; with *auto_remove* it is to be removed unless
    a restart has ended it.
    """
    pending = auto_remove and not state.spared
    return replace(_ended(_move(state, Status.EXITED), ending), auto_remove_pending=pending)


def restarting(state: ContainerState, ending: Ending) -> ContainerState:
    """The init process is gone; the restart policy will start it again after a pause."""
    state = _ended(_move(state, Status.RESTARTING), ending)
    return replace(state, restart_count=state.restart_count + 1)


def restart_given_up(state: ContainerState) -> ContainerState:
    """Stopped while it waited for its restart: exited, as of its last exit."""
    return _move(state, Status.EXITED)


def removing(state: ContainerState) -> ContainerState:
    if state.status is Status.REMOVING:
        return state
    return _move(state, Status.REMOVING)


def dead(state: ContainerState, *, message: str) -> ContainerState:
    """Removal failed half-way; it can be tried again and nothing else."""
    return replace(_move(state, Status.DEAD), error=message)


def manually_started(state: ContainerState) -> ContainerState:
    """A user asked for the start: what the restart policy has counted is forgotten."""
    return replace(state, restart_count=0, manually_stopped=False)


def without_network(state: ContainerState) -> ContainerState:
    return replace(state, sandbox_id="", sandbox_key="", endpoints={}, ports={})


def _unwatched(state: ContainerState) -> ContainerState:
    """Unhealthy where nobody looks: dockerd takes away the word of a check that it stops."""
    if state.health is None:
        return state
    return replace(state, health=replace(state.health, status="unhealthy"))


def _ended(state: ContainerState, ending: Ending) -> ContainerState:
    return replace(
        without_network(_unwatched(state)),
        pid=0,
        exit_code=ending.exit_code,
        # An exit is told from the one before by its time (``wait`` for the next exit): times of one
        # container never repeat or go back, whatever the clock does.
        finished_at=max(ending.finished_at, state.finished_at + 1),
        oom_killed=ending.oom_killed or state.oom_killed,
        held_for_commit=False,
    )


def is_active(state: ContainerState) -> bool:
    return state.status in ACTIVE


def has_task(state: ContainerState) -> bool:
    return state.status in WITH_TASK


def not_running(container_id: str) -> Conflict:
    return Conflict(f"container {container_id} is not running")


def is_restarting(container_id: str) -> Conflict:
    return Conflict(f"Container {container_id} is restarting, wait until the container is running")


def check_start(state: ContainerState) -> None:
    if state.status is Status.PAUSED:
        raise Conflict("cannot start a paused container, try unpause instead")
    if state.status in ACTIVE:
        raise NotModified("container is already running")
    if state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict("container is marked for removal and cannot be started")


def check_pause(state: ContainerState, container_id: str) -> None:
    if state.status is Status.PAUSED:
        raise Conflict(f"Container {container_id} is already paused")
    check_task(state, container_id)


def check_unpause(state: ContainerState, container_id: str) -> None:
    if state.status is not Status.PAUSED:
        raise SystemError_(f"Container {container_id} is not paused")


def check_task(state: ContainerState, container_id: str) -> None:
    """A task must be there (paused or not)."""
    if state.status is Status.RESTARTING:
        raise is_restarting(container_id)
    if state.status not in WITH_TASK:
        raise not_running(container_id)


def check_exec(state: ContainerState, container_id: str, ref: str) -> None:
    """*ref* is how the container was named: dockerd repeats it when the container is paused."""
    if state.status is Status.PAUSED:
        raise Conflict(f"Container {ref} is paused, unpause the container before exec")
    check_task(state, container_id)


def check_attach(state: ContainerState, ref: str) -> None:
    if state.status is Status.PAUSED:
        raise Conflict(f"container {ref} is paused, unpause the container before attach")
    if state.status is Status.RESTARTING:
        raise Conflict(f"container {ref} is restarting, wait until the container is running")
    if state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict(f"container {ref} is dead or marked for removal")


def check_remove(state: ContainerState, name: str) -> None:
    """Without force."""
    if state.status is Status.PAUSED:
        raise Conflict(f'cannot remove container "{name}": container is paused and must be unpaused first')
    if state.status in ACTIVE:
        raise Conflict(
            f'cannot remove container "{name}": container is {state.status}: '
            "stop the container before removing or force remove"
        )
