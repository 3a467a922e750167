"""Waiting for a container: its not running, its next exit, its removal.

Exits are told apart by ``finished_at``, which never repeats for one container (``transitions``).
A request that is sent again after a restart of the engine may have missed its exit or removal: exits
later than its first attempt count for it, and so do removals that the registry remembers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from services.engine.containers import transitions
from services.engine.containers.model import ContainerState, Entry
from services.engine.containers.services import Services
from services.engine.rpc import Context
from services.protocol.api.containers import WaitReply
from services.protocol.errors import InvalidParameter, NotFound
from services.protocol.verbs.containers import WaitArgs, Waited

NOT_RUNNING, NEXT_EXIT, REMOVED = "not-running", "next-exit", "removed"


async def until(entry: Entry, condition: Callable[[], bool]) -> None:
    """Return as soon as *condition* holds; it is looked at again at every change of the container."""
    while not condition():
        # No await between looking and taking the event: no change can fall in between.
        await entry.runtime.changed.wait()


async def until_exit(services: Services, entry: Entry, timeout: float | None = None) -> bool:
    """Wait until the run of now has ended (True); False after *timeout* seconds."""
    finished_at = entry.state.finished_at

    def ended() -> bool:
        return (
            not transitions.is_active(entry.state)
            or entry.state.finished_at != finished_at
            or is_gone(services, entry)
        )

    try:
        await asyncio.wait_for(until(entry, ended), timeout)
    except TimeoutError:
        return False
    return True


def is_gone(services: Services, entry: Entry) -> bool:
    return services.registry.find(entry.id) is not entry


def has_run(services: Services, ref: str, context: Context) -> bool:
    """For a repeated request: whether the container was started since its first attempt, and has ended."""
    return _is_over(services, ref, context, lambda state: state.started_at)


def has_ended(services: Services, ref: str, context: Context) -> bool:
    """For a repeated request: whether the container has ended since its first attempt."""
    return _is_over(services, ref, context, lambda state: state.finished_at)


def _is_over(services: Services, ref: str, context: Context, at: Callable[[ContainerState], int]) -> bool:
    try:
        entry = services.registry.get(ref)
    except NotFound:
        return services.registry.removed.exit_code(ref) is not None
    return not transitions.is_active(entry.state) and _since(context, at(entry.state), entry)


def _since(context: Context, at: int, entry: Entry) -> bool:
    """*at* is later than the request's first attempt. Where that is not told, any exit counts that this
    process was told of: it was not the one that was asked first.
    """
    return context.began < at if context.began else entry.runtime.exits > 0


async def wait(services: Services, args: WaitArgs, context: Context) -> AsyncGenerator[Waited, None]:
    """First that the wait is registered, then how it ended."""
    if args.condition not in (NOT_RUNNING, NEXT_EXIT, REMOVED):
        raise InvalidParameter(f'invalid condition: "{args.condition}"')
    repeated = context.attempt > 1
    try:
        entry = services.registry.get(args.ref)
    except NotFound:
        exit_code = services.registry.removed.exit_code(args.ref)
        if not repeated or exit_code is None:
            raise
        yield Waited(registered=True)
        yield Waited(registered=True, result=WaitReply(status_code=exit_code))
        return
    met = _condition(services, entry, args.condition, context)
    yield Waited(registered=True)
    await until(entry, met)
    # Without the error of a failed start: that is told to who asked for the start.
    yield Waited(registered=True, result=WaitReply(status_code=entry.state.exit_code))


def _condition(services: Services, entry: Entry, condition: str, context: Context) -> Callable[[], bool]:
    if condition == REMOVED:
        return lambda: entry.runtime.gone
    if condition == NOT_RUNNING and not transitions.is_active(entry.state):
        return lambda: True
    repeated = context.repeated and not transitions.has_task(entry.state)
    if repeated and _since(context, entry.state.finished_at, entry):
        return lambda: True
    # A restarting container counts as running, so only its next exit ends the wait.
    finished_at = entry.state.finished_at
    return lambda: entry.state.finished_at != finished_at or is_gone(services, entry)
