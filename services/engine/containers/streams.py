"""Attach, logs and resize: where a client's connection is to be handed, and nothing of its bytes."""

from __future__ import annotations

import msgspec

from services.engine.containers import transitions
from services.engine.containers.announce import announce
from services.engine.containers.execs import check_detach_keys
from services.engine.containers.model import Entry, Status
from services.engine.containers.prepared import (
    READABLE,
    ensure_streams,
    log_driver,
    log_options,
    log_path,
)
from services.engine.containers.services import Services
from services.protocol.errors import Conflict, InvalidParameter, Unimplemented
from services.protocol.fdpass import Handover
from services.protocol.helpers import HelperRequest
from services.protocol.shim import HEAD_READ, Attach, ReadLogs, StoppedLogs
from services.protocol.verbs.containers import AttachArgs, LogsArgs, Stream

encode = msgspec.msgpack.encode


async def attach(services: Services, args: AttachArgs) -> Stream:
    """Join a container's streams, also of one that is yet to be started."""
    check_detach_keys(args.detach_keys)
    entry = services.registry.get(args.ref)
    tty = entry.definition.config.tty
    async with entry.runtime.lock:
        transitions.check_attach(entry.state, args.ref)
        if args.logs:
            _check_readable(services, entry)
        handover = await _attach_target(services, entry, args)
        announce(services, entry, "attach")
    return Stream(handover=handover, tty=tty)


async def _attach_target(services: Services, entry: Entry, args: AttachArgs) -> Handover | None:
    if args.stream:
        if not transitions.has_task(entry.state):
            await ensure_streams(services, entry)
        return _to_shim(services, entry, _attach(entry, args))
    if not args.logs:
        return None
    return _logs_target(services, entry, _all_logs(entry, args))


def _attach(entry: Entry, args: AttachArgs) -> Attach:
    config = entry.definition.config
    return Attach(
        stdin=args.stdin and config.open_stdin,
        stdout=args.stdout,
        stderr=args.stderr,
        logs=args.logs,
        multiplexed=args.multiplexed and not config.tty,
        detach_keys=args.detach_keys,
    )


def _all_logs(entry: Entry, args: AttachArgs) -> ReadLogs:
    multiplexed = args.multiplexed and not entry.definition.config.tty
    return ReadLogs(stdout=args.stdout, stderr=args.stderr, multiplexed=multiplexed, delay=HEAD_READ)


async def logs(services: Services, args: LogsArgs) -> Stream:
    """A container's log; of a running one by its shim, which can follow it."""
    entry = services.registry.get(args.ref)
    if not args.request.stdout and not args.request.stderr:
        raise InvalidParameter("must specify at least one of 'stdout' or 'stderr'")
    if entry.state.status in (Status.REMOVING, Status.DEAD):
        raise Conflict("can not get logs from container which is dead or marked for removal")
    _check_readable(services, entry)
    tty = entry.definition.config.tty
    request = msgspec.structs.replace(args.request, multiplexed=not tty)
    async with entry.runtime.lock:
        return Stream(handover=_logs_target(services, entry, request), tty=tty)


def _check_readable(services: Services, entry: Entry) -> None:
    if log_driver(services, entry) not in READABLE:
        raise Unimplemented("configured logging driver does not support reading")


def _logs_target(services: Services, entry: Entry, request: ReadLogs) -> Handover:
    if transitions.has_task(entry.state):
        return _to_shim(services, entry, request)
    stopped = StoppedLogs(
        driver=log_driver(services, entry),
        path=str(log_path(services, entry)),
        options=log_options(services, entry),
        request=msgspec.structs.replace(request, follow=False),
    )
    helper = HelperRequest(argv=["docker-logs", msgspec.json.encode(stopped).decode()], fds=["client"])
    return Handover(socket=str(services.exec_root.zygote), payload=encode(helper))


def _to_shim(services: Services, entry: Entry, stream: Attach | ReadLogs) -> Handover:
    return Handover(socket=str(services.exec_root.shim_socket(entry.id)), payload=encode(stream))


async def resize(services: Services, ref: str, *, height: int, width: int) -> None:
    entry = services.registry.get(ref)
    if not transitions.has_task(entry.state):
        raise transitions.not_running(entry.id)
    if entry.definition.config.tty:
        await services.shims.resize(entry.id, "", height=height, width=width)
    announce(services, entry, "resize", height=str(height), width=str(width))
