"""Execs: processes added to a running container (``docker exec``)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re

import msgspec
from msgspec import UNSET

from services.engine.containers import transitions
from services.engine.containers.announce import announce
from services.engine.containers.links import link_hosts
from services.engine.containers.model import Entry, Exec
from services.engine.containers.services import Services
from services.engine.containers.spec_exec import build_process, exec_user_ref
from services.engine.containers.wait import until
from services.engine.shims import ATTEMPTS
from services.protocol import task_pb2 as pb
from services.protocol.api.execs import ExecConfig, ExecInspect, ExecStart, IdReply, ProcessConfig
from services.protocol.errors import Conflict, InvalidParameter, NotFound, Unavailable, WharfError
from services.protocol.fdpass import Handover
from services.protocol.shim import Attach
from services.protocol.verbs.containers import Stream

#: Exit codes of an exec that could not be started: the runtime's own, else "cannot be invoked".
CANNOT_INVOKE = 126
#: Exit code of an exec that was killed with its container.
KILLED = 137
#: Exit codes of a program that cannot be executed or is not there: the request's mistake.
NOT_RUNNABLE = (126, 127)
#: Seconds that a resize waits for the exec to be started (dockerd).
RESIZE_WAIT = 10.0

#: Nobody, or ids that are in range whatever the container's files say.
_SMALL_IDS = re.compile(r"([0-9]{1,9}(:[0-9]{1,9})?)?", re.ASCII)
_DETACH_KEY = re.compile(r"[a-zA-Z]|ctrl-[a-z@\[\\\]^_]|DEL", re.ASCII)


async def create(services: Services, ref: str, config: ExecConfig, request_id: str) -> IdReply:
    """The same request that comes again gets the exec that it has made."""
    if not config.cmd:
        raise InvalidParameter("No exec command specified")
    entry = services.registry.get(ref)
    transitions.check_exec(entry.state, entry.id, ref)
    check_detach_keys(config.detach_keys)
    link_hosts(services.registry, entry)  # refused while a linked container does not run
    exec_id = hashlib.sha256(request_id.encode()).hexdigest()
    if services.execs.find(exec_id) is not None:
        return IdReply(id=exec_id)
    exec_ = Exec(
        id=exec_id,
        container_id=entry.id,
        path=config.cmd[0],
        args=config.cmd[1:],
        env=config.env or [],
        tty=config.tty,
        user=config.user or entry.definition.config.user,
        working_dir=config.working_dir,
        privileged=config.privileged,
        attach_stdin=config.attach_stdin,
        attach_stdout=config.attach_stdout,
        attach_stderr=config.attach_stderr,
        detach_keys=config.detach_keys,
        console_size=_size(config.console_size),
    )
    await _check_user(services, entry, exec_)
    transitions.check_exec(entry.state, entry.id, ref)  # it may have ended meanwhile
    register(services, entry, exec_)
    return IdReply(id=exec_.id)


async def _check_user(services: Services, entry: Entry, exec_: Exec) -> None:
    """Raises InvalidParameter for who is not known in the container; plain numbers need no question.

    A shim that cannot answer now is asked by the start of the exec again, which tells why.
    """
    reference = exec_user_ref(entry, exec_)
    if not reference.additional_groups and _SMALL_IDS.fullmatch(reference.user):
        return
    try:
        await services.shims.check_user(entry.id, reference)
    except InvalidParameter:
        raise
    except WharfError:
        return


def register(services: Services, entry: Entry, exec_: Exec) -> None:
    services.execs.add(entry, exec_)
    announce(services, entry, f"exec_create: {_command(exec_)}", execID=exec_.id)


async def start(services: Services, exec_id: str, options: ExecStart, *, repeated: bool) -> Stream:
    """Detached: started when this returns. Attached: the hand-over starts it.

    Whether the output has frames is for the one who starts it to say, as a terminal's has not.

    *repeated*: the request comes again after a restart of the engine; what it asked for may have
    been done.
    """
    entry, exec_ = _active(services, exec_id)
    state = await _begun(services, entry, exec_) if repeated else None
    if state is None or state == pb.STOPPED:
        if (refusal := _refusal(exec_)) is not None:
            if options.detach:
                raise Conflict(refusal)
            return Stream(handover=None, tty=options.tty, text=f"{refusal}\r\n")
        exec_.console_size = _size(options.console_size) or exec_.console_size
        await prepare(services, entry, exec_)
    if options.detach:
        if state != pb.RUNNING:
            await _start_detached(services, entry, exec_)
        return Stream(handover=None, tty=options.tty)
    return Stream(handover=_handover(services, exec_, raw=options.tty), tty=options.tty)


async def _begun(services: Services, entry: Entry, exec_: Exec) -> pb.Status | None:
    """How far the engine before this one had come with the start of *exec_*; None: not begun."""
    if not exec_.started or exec_.exit_code is not None:
        return None
    try:
        return (await services.shims.state(entry.id, exec_.id)).status
    except NotFound:
        exec_.started = exec_.running = False
        return None


async def prepare(services: Services, entry: Entry, exec_: Exec) -> None:
    """Tell the shim what is to be executed; from here on it counts as running."""
    exec_.started = exec_.running = True
    services.execs.save(exec_)
    services.execs.preparing.add(exec_.id)
    announce(services, entry, f"exec_start: {_command(exec_)}", execID=exec_.id)
    try:
        process, user = build_process(services, entry, exec_)
        height, width = exec_.console_size or (0, 0)
        await _register_at_shim(
            services,
            pb.ExecProcessRequest(
                id=entry.id,
                exec_id=exec_.id,
                process=msgspec.json.encode(process),
                user=user,
                terminal=exec_.tty,
                open_stdin=exec_.attach_stdin,
                console_height=height,
                console_width=width,
            ),
        )
    except Exception as error:
        failed(services, entry, exec_, error)
        raise
    finally:
        services.execs.preparing.discard(exec_.id)


async def _register_at_shim(services: Services, request: pb.ExecProcessRequest) -> None:
    for _ in range(ATTEMPTS - 1):
        try:
            await services.shims.exec(request)
            return
        except Unavailable:
            # The task service went away; it may have passed the call on before it could answer.
            with contextlib.suppress(NotFound):
                await services.shims.state(request.id, request.exec_id)
                return
    await services.shims.exec(request)


async def _start_at_shim(services: Services, request: pb.StartRequest) -> int:
    """Pid of the started exec, which may have been started although the answer was lost."""
    for _ in range(ATTEMPTS - 1):
        try:
            return (await services.shims.start(request)).pid
        except Unavailable:
            state = await services.shims.state(request.id, request.exec_id)
            if state.status != pb.PREPARED:
                return state.pid
    return (await services.shims.start(request)).pid


async def _start_detached(services: Services, entry: Entry, exec_: Exec) -> None:
    try:
        pid = await _start_at_shim(services, pb.StartRequest(id=entry.id, exec_id=exec_.id))
    except Exception as error:
        failed(services, entry, exec_, error)
        if isinstance(error, WharfError) and error.exit_code in NOT_RUNNABLE:
            raise InvalidParameter(str(error), exit_code=error.exit_code) from error
        raise
    # Its container may have ended before the answer came, and the directory of the record with it.
    if exec_.exit_code is None and services.execs.find(exec_.id) is exec_:
        exec_.pid = pid
        services.execs.save(exec_)


def failed(services: Services, entry: Entry, exec_: Exec, error: BaseException) -> None:
    """The exec could not be started: it has ended without having run."""
    code = error.exit_code if isinstance(error, WharfError) else None
    services.execs.ended(entry, exec_, CANNOT_INVOKE if code is None else code)


def _handover(services: Services, exec_: Exec, *, raw: bool) -> Handover:
    height, width = exec_.console_size or (0, 0)
    attach = Attach(
        exec_id=exec_.id,
        stdin=exec_.attach_stdin,
        stdout=exec_.attach_stdout,
        stderr=exec_.attach_stderr and not raw,
        multiplexed=not raw,
        detach_keys=exec_.detach_keys,
        start=True,
        console_height=height,
        console_width=width,
    )
    socket = str(services.exec_root.shim_socket(exec_.container_id))
    return Handover(socket=socket, payload=msgspec.msgpack.encode(attach))


async def inspect(services: Services, exec_id: str) -> ExecInspect:
    entry, exec_ = _find(services, exec_id)
    if exec_.running and exec_.id not in services.execs.preparing:
        await refresh(services, entry, exec_)
    privileged = exec_.privileged
    return ExecInspect(
        exec_id=exec_.id,
        running=exec_.running,
        exit_code=exec_.exit_code,
        process_config=ProcessConfig(
            tty=exec_.tty,
            entrypoint=exec_.path,
            arguments=exec_.args,
            privileged=privileged,
            user=exec_.user or UNSET,
        ),
        open_stdin=exec_.attach_stdin,
        open_stderr=exec_.attach_stderr,
        open_stdout=exec_.attach_stdout,
        can_remove=exec_.exit_code is not None and not exec_.started,
        container_id=exec_.container_id,
        detach_keys=exec_.detach_keys,
        pid=exec_.pid,
    )


async def refresh(services: Services, entry: Entry, exec_: Exec) -> None:
    """Look at the shim: its event may still be on the way when a client has seen the stream end."""
    try:
        state = await services.shims.state(entry.id, exec_.id)
    except NotFound:
        if exec_.exit_code is None:
            # The record says running and the shim knows nothing: the engine died before it told it.
            services.execs.ended(entry, exec_, CANNOT_INVOKE)
        return
    if state.pid and exec_.exit_code is None:
        exec_.pid = state.pid
    if state.status == pb.STOPPED:
        await exited(services, entry, exec_, state.exit_status, ran=state.pid > 0)


async def exited(services: Services, entry: Entry, exec_: Exec, exit_code: int, *, ran: bool) -> None:
    """Record the end of an exec, once: it is told by the event and by who asks the shim.

    One that never *ran* could not be started, and has not died.
    """
    if exec_.exit_code is not None:
        return
    _end(services, entry, exec_, exit_code, ran=ran)
    try:
        await services.shims.delete(entry.id, exec_.id)
    except NotFound:
        pass


def _end(services: Services, entry: Entry, exec_: Exec, exit_code: int, *, ran: bool) -> None:
    services.execs.ended(entry, exec_, exit_code)
    if ran:
        announce(services, entry, "exec_die", execID=exec_.id, exitCode=str(exit_code))
    entry.runtime.notify()


async def task_ended(services: Services, entry: Entry) -> None:
    """The container has ended, and its execs with it: they were killed, or had ended, which is told only now.

    Who has started one asks how it ended. What was not started is gone.
    """
    for exec_ in list(entry.runtime.execs.values()):
        if not exec_.started or exec_.id in services.execs.preparing:
            continue
        code, ran = KILLED, True
        with contextlib.suppress(WharfError):
            state = await services.shims.state(entry.id, exec_.id)
            if state.status == pb.STOPPED:
                code, ran = state.exit_status, state.pid > 0
        if exec_.exit_code is None:
            _end(services, entry, exec_, code, ran=ran)
    services.execs.task_gone(entry)


async def resize(services: Services, exec_id: str, *, height: int, width: int) -> None:
    entry, exec_ = _active(services, exec_id)
    try:
        await asyncio.wait_for(until(entry, lambda: exec_.pid > 0 or not exec_.running), RESIZE_WAIT)
    except TimeoutError:
        raise InvalidParameter("timeout waiting for exec session ready") from None
    if not exec_.running:
        raise InvalidParameter("exec process is not started")
    if exec_.tty:
        await services.shims.resize(entry.id, exec_.id, height=height, width=width)


def check_detach_keys(keys: str) -> None:
    """Comma separated keys, each a letter, ``ctrl-<key>`` or ``DEL`` (moby ``term.ToBytes``)."""
    for key in keys.split(",") if keys else ():
        if len(key) != 1 and not _DETACH_KEY.fullmatch(key):
            raise InvalidParameter(f"Invalid detach keys ({keys}) provided")


def _find(services: Services, exec_id: str) -> tuple[Entry, Exec]:
    exec_ = services.execs.find(exec_id)
    entry = services.registry.find(exec_.container_id) if exec_ is not None else None
    if exec_ is None or entry is None:
        raise NotFound(f"No such exec instance: {exec_id}")
    return entry, exec_


def _active(services: Services, exec_id: str) -> tuple[Entry, Exec]:
    entry, exec_ = _find(services, exec_id)
    transitions.check_exec(entry.state, entry.id, entry.id)
    return entry, exec_


def _refusal(exec_: Exec) -> str | None:
    if exec_.exit_code is not None:
        return f"exec command {exec_.id} has already run"
    if exec_.started:
        return f"exec command {exec_.id} is already running"
    return None


def _command(exec_: Exec) -> str:
    """As the events have it: also without arguments there is a space."""
    return f"{exec_.path} {' '.join(exec_.args)}"


def _size(size: list[int] | None) -> tuple[int, int] | None:
    return (size[0], size[1]) if size is not None and len(size) == 2 else None
