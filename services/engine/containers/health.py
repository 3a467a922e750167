"""Health checks: a probe at intervals, run as an exec; its outcome counted into a status.

:func:`judge` is the rule, without I/O; the rest runs probes (moby ``daemon/health.go``).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import time
from dataclasses import dataclass

import msgspec

from services.engine.containers import execs, transitions
from services.engine.containers.announce import announce
from services.engine.containers.capture import capture
from services.engine.containers.model import Entry, Exec, HealthState, Status
from services.engine.containers.services import Services
from services.engine.containers.times import rfc3339
from services.engine.dockerfile.healthcheck import go_duration
from services.protocol.api.containers import HealthLog
from services.protocol.errors import WharfError
from services.protocol.shim import EXEC_IN_PAUSED

log = logging.getLogger(__name__)

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"

#: Results kept, and bytes of a probe's output.
LOG_LENGTH, OUTPUT_LIMIT = 5, 4096
_SECOND = 1_000_000_000
#: What the shim writes to the output of an exec that could not be started.
_NOT_STARTED = "OCI runtime exec failed: "


@dataclass(frozen=True)
class Check:
    """A health check with its defaults filled in; times in seconds."""

    command: list[str]
    interval: float = 30.0
    timeout: float = 30.0
    start_period: float = 0.0
    start_interval: float = 5.0
    retries: int = 3


def check_of(entry: Entry) -> Check | None:
    """The container's check; None when it has none (or ``NONE``)."""
    config = entry.definition.config
    probe = config.healthcheck
    if not isinstance(probe, msgspec.Struct) or not isinstance(probe.test, list) or not probe.test:
        return None
    kind, *rest = probe.test
    if kind == "CMD-SHELL":
        shell = config.shell if isinstance(config.shell, list) and config.shell else ["/bin/sh", "-c"]
        rest = [*shell, *rest]
    if kind not in ("CMD", "CMD-SHELL") or not rest:
        return None
    return Check(
        command=rest,
        interval=_seconds(probe.interval, Check.interval),
        timeout=_seconds(probe.timeout, Check.timeout),
        start_period=_seconds(probe.start_period, Check.start_period),
        start_interval=_seconds(probe.start_interval, Check.start_interval),
        retries=probe.retries if isinstance(probe.retries, int) and probe.retries else Check.retries,
    )


def _seconds(nanoseconds: object, default: float) -> float:
    return nanoseconds / _SECOND if isinstance(nanoseconds, int) and nanoseconds else default


def initial(entry: Entry) -> HealthState | None:
    """The state of a container that starts, which keeps what earlier probes said."""
    if check_of(entry) is None:
        return None
    return HealthState(log=[] if entry.state.health is None else entry.state.health.log)


def judge(health: HealthState, result: HealthLog, *, age: float, check: Check) -> HealthState:
    """The state after *result*, of a container that has run for *age* seconds."""
    status, streak = health.status, health.failing_streak
    if result.exit_code == 0:
        status, streak = HEALTHY, 0
    elif status != STARTING or age >= check.start_period:
        streak += 1
        if streak >= check.retries:
            status = UNHEALTHY
    return HealthState(status=status, failing_streak=streak, log=[*health.log, result][-LOG_LENGTH:])


def watch(services: Services, entry: Entry) -> None:
    """Start probing a running container; ends by :func:`stop`."""
    stop(entry)
    if (check := check_of(entry)) is not None:
        entry.runtime.health_monitor = services.background.spawn(
            _watch(services, entry, check), name=f"health {entry.id[:12]}"
        )


def stop(entry: Entry) -> None:
    if (task := entry.runtime.health_monitor) is not None:
        task.cancel()
        entry.runtime.health_monitor = None


async def _watch(services: Services, entry: Entry, check: Check) -> None:
    started_at = entry.state.started_at
    while True:
        health = entry.state.health
        early = health is not None and health.status == STARTING and _age(started_at) < check.start_period
        await asyncio.sleep(check.start_interval if early else check.interval)
        if entry.state.started_at != started_at or not transitions.has_task(entry.state):
            return
        if entry.state.status is not Status.PAUSED:
            await _record(services, entry, check, await _probe(services, entry, check))


async def _record(services: Services, entry: Entry, check: Check, result: HealthLog | None) -> None:
    async with entry.runtime.lock:
        if result is None or entry.state.status is not Status.RUNNING or entry.state.health is None:
            return
        before = entry.state.health
        after = judge(before, result, age=_age(entry.state.started_at), check=check)
        entry.state = transitions.replace(entry.state, health=after)
        if after.status == before.status:
            return  # not worth a write to the disk: a restarted engine probes anew
        await services.registry.save_state(entry)
    announce(services, entry, f"health_status: {after.status}")


async def _probe(services: Services, entry: Entry, check: Check) -> HealthLog | None:
    """One probe; None when it says nothing of the container (which is being paused or stopped)."""
    exec_, output = _exec_of(entry, check), bytearray()
    began = time.time_ns()
    execs.register(services, entry, exec_)
    try:
        await execs.prepare(services, entry, exec_)
        # One byte more tells that there was more.
        await asyncio.wait_for(capture(services, exec_, output, OUTPUT_LIMIT + 1), check.timeout)
        await execs.refresh(services, entry, exec_)
        code = exec_.exit_code if exec_.exit_code is not None else -1
        text = shown(output)
        if text.startswith(EXEC_IN_PAUSED):
            return None
        if not exec_.pid and text.startswith(_NOT_STARTED):
            code, text = -1, text.removesuffix("\r\n")
    except TimeoutError:
        await _end(services, entry, exec_)
        code, text = -1, f"Health check exceeded timeout ({go_duration(int(check.timeout * _SECOND))})"
        text += f": {shown(output)}" if output else ""
    except WharfError as error:
        if not transitions.has_task(entry.state) or entry.state.status is Status.PAUSED:
            return None
        code, text = -1, str(error)
    return HealthLog(start=rfc3339(began), end=rfc3339(time.time_ns()), exit_code=code, output=text)


def shown(output: bytes | bytearray) -> str:
    """A probe's output as the log of results keeps it; dots say that there was more."""
    return output[:OUTPUT_LIMIT].decode(errors="replace") + ("..." if len(output) > OUTPUT_LIMIT else "")


async def _end(services: Services, entry: Entry, exec_: Exec) -> None:
    try:
        await services.shims.kill(entry.id, signal.SIGKILL, exec_id=exec_.id)
    except WharfError as error:
        log.debug("health check of %s could not be killed: %s", entry.id, error)


def _exec_of(entry: Entry, check: Check) -> Exec:
    return Exec(
        id=secrets.token_hex(32),
        container_id=entry.id,
        path=check.command[0],
        args=check.command[1:],
        env=[],
        tty=False,
        user=entry.definition.config.user,
        working_dir="",
        privileged=False,
        attach_stdin=False,
        attach_stdout=True,
        attach_stderr=True,
        detach_keys="",
    )


def _age(started_at: int) -> float:
    """Seconds since *started_at*."""
    return (time.time_ns() - started_at) / _SECOND
