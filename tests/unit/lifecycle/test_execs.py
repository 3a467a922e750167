"""Execs and streams: what is refused, where connections go, what survives the engine."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import msgspec
import pytest

from services.engine.containers import execs, monitor, prepared, remove, start, stop, streams
from services.engine.containers.model import Entry
from services.engine.containers.restore import restore
from services.protocol import oci
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import LogConfig
from services.protocol.api.execs import ExecConfig, ExecStart
from services.protocol.errors import Conflict, InvalidParameter, NotFound, Unavailable, Unimplemented
from services.protocol.helpers import HelperRequest
from services.protocol.shim import HEAD_READ, Attach, ReadLogs, StoppedLogs
from services.protocol.verbs.containers import AttachArgs, LogsArgs
from tests.unit.lifecycle.fakes import World, run

ATTACHED, DETACHED = ExecStart(detach=False), ExecStart(detach=True)


@pytest.fixture(autouse=True)
def no_process(no_documents: None) -> Iterator[None]:
    with mock.patch.object(execs, "build_process", return_value=(oci.Process(), pb.UserRef())):
        yield


async def _running(world: World) -> Entry:
    entry = await world.container()
    await start.start(world.services, entry)
    return entry


async def _exec(world: World, **config: object) -> str:
    values = {"cmd": ["sh", "-c", "x"], "attach_stdout": True} | config
    made = ExecConfig(**values)  # type: ignore[arg-type]
    return (await execs.create(world.services, "c", made, secrets.token_hex())).id


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_who_starts_an_exec_says_whether_its_output_has_frames(
    tmp_path: Path, terminal: bool, asked: bool
) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _running(world)
        exec_id = await _exec(world, tty=terminal, attach_stderr=True)
        stream = await execs.start(world.services, exec_id, ExecStart(tty=asked), repeated=False)
        assert stream.handover is not None and stream.tty == asked
        attach = msgspec.msgpack.decode(stream.handover.payload, type=Attach)
        assert (attach.multiplexed, attach.stdout, attach.stderr) == (not asked, True, not asked)

    run(test())


def test_attached_exec(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        exec_id = await _exec(world)
        fresh = await execs.inspect(world.services, exec_id)
        assert (fresh.running, fresh.exit_code, fresh.pid) == (False, None, 0)
        stream = await execs.start(world.services, exec_id, ATTACHED, repeated=False)
        assert stream.handover is not None and stream.handover.socket.endswith(f"{entry.id}/shim.sock")
        attach = msgspec.msgpack.decode(stream.handover.payload, type=Attach)
        assert attach.start and attach.exec_id == exec_id and attach.stdout and not attach.stdin
        with pytest.raises(Conflict, match=f"exec command {exec_id} is already running"):
            await execs.start(world.services, exec_id, DETACHED, repeated=False)
        world.shims.end_exec(exec_id, 3)
        ended = await execs.inspect(world.services, exec_id)  # before the event has come
        assert (ended.running, ended.exit_code) == (False, 3)
        assert not entry.runtime.execs and exec_id not in world.shims.execs
        again = await execs.start(world.services, exec_id, ATTACHED, repeated=False)
        assert again.handover is None and again.text == f"exec command {exec_id} has already run\r\n"
        assert world.names() == ["start", "exec_create: sh -c x", "exec_start: sh -c x", "exec_die"]
        await world.close()

    run(test())


def test_an_unknown_user_is_refused_before_there_is_an_exec(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        refusal = "unable to find user ghost: no matching entries in passwd file"
        world.shims.failing["check_user"] = InvalidParameter(refusal)
        with pytest.raises(InvalidParameter, match=f"^{refusal}$"):
            await _exec(world, user="ghost")
        assert not entry.runtime.execs and world.names() == ["start"]
        world.shims.failing["check_user"] = Unavailable("the task service went away")
        await _exec(world, user="1:staff")  # whoever that is, the start will tell
        assert world.shims.asked == ["ghost", "1:staff"]
        await _exec(world, user="12:34")
        await _exec(world)
        assert world.shims.asked == ["ghost", "1:staff"]
        await world.close()

    run(test())


def test_an_exec_that_is_being_started_has_not_ended(tmp_path: Path) -> None:
    """Somebody looks at it before the shim has been told of it."""

    async def test() -> None:
        world = World(tmp_path)
        await _running(world)
        exec_id = await _exec(world)
        real, told, go_on = world.shims.exec, asyncio.Event(), asyncio.Event()

        async def slow(request: pb.ExecProcessRequest) -> None:
            told.set()
            await go_on.wait()
            await real(request)

        with mock.patch.object(world.shims, "exec", slow):
            starting = asyncio.create_task(
                execs.start(world.services, exec_id, DETACHED, repeated=False),
            )
            await told.wait()
            found = await execs.inspect(world.services, exec_id)
            assert (found.running, found.exit_code) == (True, None)
            go_on.set()
            await starting
        found = await execs.inspect(world.services, exec_id)
        assert (found.running, found.exit_code) == (True, None) and found.pid
        await world.close()

    run(test())


@pytest.mark.parametrize("code", [3, None])
def test_the_end_of_an_exec_is_known_although_that_of_its_container_is_told_first(
    tmp_path: Path, code: int | None
) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        exec_id = await _exec(world)
        await execs.start(world.services, exec_id, DETACHED, repeated=False)
        if code is not None:
            world.shims.end_exec(exec_id, code)
        world.shims.end(entry.id, 11)
        await monitor.task_exited(world.services, entry, world.shims.exit_event(entry.id).exit)
        found = await execs.inspect(world.services, exec_id)
        assert (found.running, found.exit_code) == (False, 137 if code is None else code)
        assert world.names()[-2:] == ["exec_die", "die"] and not entry.runtime.execs
        await world.close()

    run(test())


def test_a_container_that_ends_before_the_start_of_its_exec_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        exec_id = await _exec(world)
        real = world.shims.start

        async def ending(request: pb.StartRequest) -> pb.StartResponse:
            answer = await real(request)
            world.shims.end(entry.id, 11)
            await monitor.task_exited(world.services, entry, world.shims.exit_event(entry.id).exit)
            shutil.rmtree(world.services.exec_root.shim_dir(entry.id), ignore_errors=True)
            return answer

        with mock.patch.object(world.shims, "start", ending):
            await execs.start(world.services, exec_id, DETACHED, repeated=False)
        assert not world.services.exec_root.shim_dir(entry.id).exists()
        await world.close()

    run(test())


def test_an_exec_outlives_the_engine(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _running(world)
        exec_id = await _exec(world)
        await execs.start(world.services, exec_id, DETACHED, repeated=False)
        pid = (await execs.inspect(world.services, exec_id)).pid
        world = await world.reborn()
        await restore(world.services)
        found = await execs.inspect(world.services, exec_id)
        assert (found.running, found.pid) == (True, pid)
        stream = await execs.start(world.services, exec_id, DETACHED, repeated=True)
        assert stream.handover is None and stream.text == ""
        world.shims.end_exec(exec_id, 42)
        assert (await execs.inspect(world.services, exec_id)).exit_code == 42
        world = await world.reborn()
        await restore(world.services)
        assert (await execs.inspect(world.services, exec_id)).exit_code == 42
        await world.close()

    run(test())


def test_an_exec_that_ended_its_container_can_be_inspected(tmp_path: Path) -> None:
    """Until the container goes; what had not ended goes with the run."""

    async def test() -> None:
        world = World(tmp_path)
        entry = await _running(world)
        ended, waiting = await _exec(world), await _exec(world)
        await execs.start(world.services, ended, DETACHED, repeated=False)
        world.shims.end_exec(ended, 3)
        await execs.inspect(world.services, ended)
        world.shims.end(entry.id, 11)
        await monitor.task_exited(world.services, entry, world.shims.exit_event(entry.id).exit)
        found = await execs.inspect(world.services, ended)
        assert (found.running, found.exit_code) == (False, 3)
        with pytest.raises(NotFound, match=f"No such exec instance: {waiting}"):
            await execs.inspect(world.services, waiting)
        await remove.remove(world.services, entry)
        with pytest.raises(NotFound, match=f"No such exec instance: {ended}"):
            await execs.inspect(world.services, ended)
        await world.close()

    run(test())


def test_a_repeated_attach_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _running(world)
        exec_id = await _exec(world)
        await execs.start(world.services, exec_id, ATTACHED, repeated=False)
        stream = await execs.start(world.services, exec_id, ATTACHED, repeated=True)
        assert stream.handover is not None
        world.shims.execs.clear()  # it was never told to the shim
        stream = await execs.start(world.services, exec_id, ATTACHED, repeated=True)
        assert stream.handover is not None and exec_id in world.shims.execs
        await world.close()

    run(test())


def test_a_failed_exec_has_its_code(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _running(world)
        exec_id = await _exec(world)
        world.shims.failing["start"] = InvalidParameter("no such file", exit_code=127)
        with pytest.raises(InvalidParameter, match="no such file"):
            await execs.start(world.services, exec_id, DETACHED, repeated=False)
        assert (await execs.inspect(world.services, exec_id)).exit_code == 127
        await world.close()

    run(test())


def test_what_execs_refuse(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        with pytest.raises(InvalidParameter, match="No exec command specified"):
            await _exec(world, cmd=[])
        with pytest.raises(Conflict, match=f"container {entry.id} is not running"):
            await _exec(world)
        await start.start(world.services, entry)
        with pytest.raises(InvalidParameter, match=r"Invalid detach keys \(foo\) provided"):
            await _exec(world, detach_keys="foo")
        await stop.pause(world.services, entry)
        with pytest.raises(Conflict, match="Container c is paused, unpause the container before exec"):
            await _exec(world)
        with pytest.raises(NotFound, match="No such exec instance: x"):
            await execs.inspect(world.services, "x")
        await world.close()

    run(test())


def test_resize_waits_for_the_start(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await _running(world)
        exec_id = await _exec(world, tty=True)
        with pytest.raises(InvalidParameter, match="exec process is not started"):
            await execs.resize(world.services, exec_id, height=1, width=2)
        await execs.start(world.services, exec_id, ATTACHED, repeated=False)
        resizing = asyncio.create_task(execs.resize(world.services, exec_id, height=1, width=2))
        await asyncio.sleep(0.01)
        assert not resizing.done()
        entry = world.entry()
        entry.runtime.execs[exec_id].pid = 5
        entry.runtime.notify()
        await resizing
        assert world.shims.sizes == [(exec_id, 1, 2)]
        await world.close()

    run(test())


def test_attach_before_start_forks_the_shim(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        stream = await streams.attach(world.services, AttachArgs("c", stdout=True, stream=True))
        assert stream.handover is not None and world.shims.all[entry.id].status == pb.PREPARED
        await start.start(world.services, entry)
        assert world.shims.all[entry.id].status == pb.RUNNING
        await world.close()

    run(test())


def test_a_log_that_cannot_be_written_fails_the_start_and_not_the_attach(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        bad = InvalidParameter("failed to initialize logging driver: invalid size: 'x'")
        real = world.shims.start_shim

        async def start_shim(request: pb.StartShimRequest) -> pb.StartShimResponse:
            if request.log.driver != "none":
                raise bad
            return await real(request)

        with mock.patch.object(world.shims, "start_shim", start_shim):
            stream = await streams.attach(world.services, AttachArgs("c", stdout=True, stream=True))
            assert stream.handover is not None
            words = "failed to create task for container: failed to initialize logging driver"
            with pytest.raises(InvalidParameter, match=words):
                await start.start(world.services, entry)
        assert not world.shims.all
        await start.start(world.services, entry)
        await world.close()

    run(test())


def test_logs_of_a_stopped_container_come_from_the_helper(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container(log_config=LogConfig(type_="local", config={"max-size": "1k"}))
        request = LogsArgs("c", ReadLogs(follow=True, tail=3))
        stream = await streams.logs(world.services, request)
        assert stream.handover is not None
        helper = msgspec.msgpack.decode(stream.handover.payload, type=HelperRequest)
        assert (helper.argv[0], helper.fds) == ("docker-logs", ["client"])
        stopped = msgspec.json.decode(helper.argv[1], type=StoppedLogs)
        assert stopped.driver == "local" and stopped.path.endswith("local-logs/container.log")
        assert stopped.request.tail == 3 and not stopped.request.follow and not stopped.request.delay
        joined = await streams.attach(world.services, AttachArgs("c", stdout=True, logs=True, stream=False))
        assert joined.handover is not None
        helper = msgspec.msgpack.decode(joined.handover.payload, type=HelperRequest)
        # A client that reads its head with a buffer must not read of the log with it.
        assert msgspec.json.decode(helper.argv[1], type=StoppedLogs).request.delay == HEAD_READ
        await start.start(world.services, entry)
        stream = await streams.logs(world.services, request)
        assert stream.handover is not None
        assert msgspec.msgpack.decode(stream.handover.payload, type=ReadLogs).follow
        await world.close()

    run(test())


def test_logs_that_cannot_be_read(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        await world.container(log_config=LogConfig(type_="none"))
        with pytest.raises(Unimplemented, match="configured logging driver does not support reading"):
            await streams.logs(world.services, LogsArgs("c", ReadLogs()))
        with pytest.raises(InvalidParameter, match="^must specify at least one of 'stdout' or 'stderr'$"):
            await streams.logs(world.services, LogsArgs("c", ReadLogs(stdout=False, stderr=False)))
        await world.close()

    run(test())


def test_attributes_of_log_records(tmp_path: Path) -> None:
    async def test() -> None:
        world = World(tmp_path)
        options = {"labels": "team,none", "env-regex": "^Z", "tag": "{{.Name}}/{{.ID}}{{.ContainerName}}"}
        entry = await world.container(log_config=LogConfig(type_="json-file", config=options))
        entry.definition.config.env = ["ZONE=z=1", "A=b"]
        attributes = dict(prepared.log_config(world.services, entry).attributes)
        assert attributes == {"team": "x", "ZONE": "z=1", "tag": f"c/{entry.id[:12]}/c"}
        await world.close()

    run(test())


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        (
            "tag",
            "x {{.Nope}}",
            'template: log-tag:1:4: executing "log-tag" at <.Nope>: '
            "can't evaluate field Nope in type *logger.Info",
        ),
        ("env-regex", "a(", "error parsing regexp: missing closing ): `a(`"),
        ("env-regex", "a)", "error parsing regexp: unexpected ): `a)`"),
        ("labels-regex", "a[b", "error parsing regexp: missing closing ]: `[b`"),
        ("labels-regex", "*a", "error parsing regexp: missing argument to repetition operator: `*`"),
    ],
)
def test_log_options_that_say_nothing(tmp_path: Path, option: str, value: str, text: str) -> None:
    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container(log_config=LogConfig(type_="json-file", config={option: value}))
        with pytest.raises(InvalidParameter) as raised:
            prepared.log_config(world.services, entry)
        assert str(raised.value) == f"failed to initialize logging driver: {text}"
        await world.close()

    run(test())


@pytest.mark.parametrize("method", ["create", "start"])
def test_an_answer_that_was_lost(tmp_path: Path, method: str) -> None:
    """The task service dies after it has passed the call on: the start goes on with what there is."""

    async def test() -> None:
        world = World(tmp_path)
        entry = await world.container()
        real = getattr(world.shims, method)

        async def lost(request: object) -> object:
            await real(request)
            raise Unavailable("containerd-shim: connection reset")

        with mock.patch.object(world.shims, method, lost):
            await start.start(world.services, entry)
        assert entry.state.pid == world.shims.all[entry.id].pid
        assert world.shims.all[entry.id].status == pb.RUNNING
        await world.close()

    run(test())
