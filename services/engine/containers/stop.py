"""Ending and pausing: stop, kill, pause, unpause (``restart`` is in :mod:`lifecycle_verbs`).

The container's lock is held while a signal is sent, never while its effect is waited for: it is
the monitor that records the exit, under the same lock.
"""

from __future__ import annotations

import signal

from services.engine import signals
from services.engine.containers import transitions, wait
from services.engine.containers.announce import announce
from services.engine.containers.model import Entry, Status
from services.engine.containers.services import Services
from services.protocol.errors import (
    Conflict,
    InvalidParameter,
    NotFound,
    NotModified,
    SystemError_,
    WharfError,
)

#: Seconds to wait for the exit after SIGKILL, and after a stop signal that could not be sent.
KILL_WAIT, FAILED_SIGNAL_WAIT = 30.0, 2.0


def stop_signal(entry: Entry) -> int:
    text = entry.definition.config.stop_signal
    return signals.parse(text) if isinstance(text, str) and text else signal.SIGTERM


def stop_timeout(services: Services, entry: Entry) -> int:
    """Seconds; negative is for ever."""
    timeout = entry.definition.config.stop_timeout
    return timeout if isinstance(timeout, int) else services.settings.default_stop_timeout


async def stop(
    services: Services, entry: Entry, *, timeout: int | None = None, signal_name: str = ""
) -> None:
    """End the container: stop signal, then SIGKILL after *timeout* seconds (-1: never).

    Raises ``NotModified`` when it does not run.
    """
    if not transitions.is_active(entry.state):
        raise NotModified("container is already stopped")
    number = signals.parse(signal_name) if signal_name else stop_signal(entry)
    seconds = stop_timeout(services, entry) if timeout is None else timeout
    await end(services, entry, number, seconds)
    announce(services, entry, "stop")


async def end(services: Services, entry: Entry, number: int, seconds: float, *, by_user: bool = True) -> None:
    """Send *number*, then SIGKILL after *seconds* (negative: never)."""
    try:
        await send(services, entry, number, by_user=by_user)
    except WharfError:
        if await wait.until_exit(services, entry, FAILED_SIGNAL_WAIT):
            return
        if seconds < 0:
            raise
    else:
        if await wait.until_exit(services, entry, None if seconds < 0 else seconds):
            return
    try:
        await kill(services, entry, by_user=by_user)
    except Conflict:
        if transitions.is_active(entry.state):
            raise  # otherwise it exited between the wait and the signal


async def kill(services: Services, entry: Entry, *, by_user: bool = True) -> None:
    """SIGKILL, and wait for the exit. A container that is gone already is no error."""
    await send(services, entry, signal.SIGKILL, by_user=by_user)
    if not await wait.until_exit(services, entry, KILL_WAIT):
        raise SystemError_("tried to kill container, but did not receive an exit event")


async def kill_request(services: Services, ref: str, signal_name: str) -> None:
    """``docker kill``: the texts are prefixed with the container as it was named."""
    try:
        number = signals.parse(signal_name) if signal_name else int(signal.SIGKILL)
        if not signals.is_supported(number):
            raise InvalidParameter(f"the linux daemon does not support signal {number}")
        entry = services.registry.get(ref)
        if number == signal.SIGKILL:
            await kill(services, entry)
        else:
            await send(services, entry, number)
    except WharfError as error:
        raise type(error)(f"cannot kill container: {ref}: {error}") from error


async def send(services: Services, entry: Entry, number: int, *, by_user: bool = True) -> None:
    """Send a signal to the container's init; raises ``Conflict`` when there is none.

    *by_user*: remembered, so that ``unless-stopped`` does not start it at the next boot. A signal
    that is meant to end the container also ends its restart policy for this run, and wakes it when
    it is paused (a frozen process dies only when it is thawed).
    """
    async with entry.runtime.lock:
        state = entry.state
        if state.status is Status.RESTARTING:
            await _give_up_restart(services, entry)
            return
        if not transitions.has_task(state):
            raise transitions.not_running(entry.id)
        ends = _is_meant_to_end(entry, number)
        if ends:
            entry.runtime.stop_requested = True
        if by_user and not state.manually_stopped:
            entry.state = transitions.replace(state, manually_stopped=True)
            await services.registry.save_state(entry)
        try:
            await services.shims.kill(entry.id, number)
        except NotFound:
            return  # it has exited already; the monitor will say so
        if ends and state.status is Status.PAUSED:
            await _wake(services, entry)
        announce(services, entry, "kill", signal=str(number))


def _is_meant_to_end(entry: Entry, number: int) -> bool:
    """dockerd: SIGKILL and the configured stop signal; any signal when none is configured."""
    configured = entry.definition.config.stop_signal
    if number == signal.SIGKILL or not isinstance(configured, str) or not configured:
        return True
    return signals.parse(configured) == number


async def _give_up_restart(services: Services, entry: Entry) -> None:
    if (timer := entry.runtime.restart_timer) is not None:
        timer.cancel()
        entry.runtime.restart_timer = None
    state = transitions.restart_given_up(entry.state)
    entry.state = transitions.replace(state, manually_stopped=True)
    await services.registry.save_state(entry)


async def pause(services: Services, entry: Entry, *, for_commit: bool = False) -> None:
    """With *for_commit* an engine that is started in between wakes it."""
    async with entry.runtime.lock:
        transitions.check_pause(entry.state, entry.id)
        if for_commit:
            entry.state = transitions.replace(entry.state, held_for_commit=True)
            await services.registry.save_state(entry)
        try:
            await services.shims.pause(entry.id)
        except WharfError as error:
            raise type(error)(f"cannot pause container {entry.id}: {error}") from error
        # Set in any case: a commit that could not pause it has left its mark.
        entry.state = transitions.replace(transitions.paused(entry.state), held_for_commit=for_commit)
        await services.registry.save_state(entry)
        announce(services, entry, "pause")


async def unpause(services: Services, entry: Entry) -> None:
    async with entry.runtime.lock:
        transitions.check_unpause(entry.state, entry.id)
        try:
            await _resume(services, entry)
        except WharfError as error:
            raise type(error)(f"Cannot unpause container {entry.id}: {error}") from error


async def _wake(services: Services, entry: Entry) -> None:
    """Resume what a signal is to end; the shim has done it for SIGKILL, and the end may be quicker."""
    try:
        await services.shims.resume(entry.id)
    except (Conflict, NotFound):
        pass
    await _resumed(services, entry)


async def _resume(services: Services, entry: Entry) -> None:
    await services.shims.resume(entry.id)
    await _resumed(services, entry)


async def _resumed(services: Services, entry: Entry) -> None:
    entry.state = transitions.unpaused(entry.state)
    await services.registry.save_state(entry)
    announce(services, entry, "unpause")
