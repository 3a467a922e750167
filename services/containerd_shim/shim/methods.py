"""The methods of ``task.proto``: request and response of each, and what it does with the task."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import msgspec

from services.containerd_shim.shim.process import Process
from services.containerd_shim.shim.task import Task
from services.protocol import oci
from services.protocol import task_pb2 as pb
from services.protocol.errors import NotFound, Unimplemented

Reply = Callable[[Any], None]
Method = Callable[[Task, Any, Reply], None]


def _create(task: Task, request: pb.CreateTaskRequest, reply: Reply) -> None:
    reply(pb.CreateTaskResponse(pid=task.create(request)))


def _start(task: Task, request: pb.StartRequest, reply: Reply) -> None:
    process = task.start(request)
    reply(pb.StartResponse(pid=process.pid, started_at=process.started_at))


def _delete(task: Task, request: pb.DeleteRequest, reply: Reply) -> None:
    task.delete(request, reply)


def _state(task: Task, request: pb.StateRequest, reply: Reply) -> None:
    process = task.process(request.exec_id)
    reply(
        pb.StateResponse(
            id=task.id,
            exec_id=request.exec_id,
            pid=process.pid,
            status=process.status,
            exit_status=process.exit_status,
            exited_at=process.exited_at,
            started_at=process.started_at,
            oom_killed=process.oom_killed,
            bundle=task.bundle,
            shim_pid=os.getpid(),
            execs=[exec_id for exec_id, each in task.execs.items() if each.status == pb.RUNNING],
        )
    )


def _kill(task: Task, request: pb.KillRequest, reply: Reply) -> None:
    task.kill(task.process(request.exec_id), request.signal, every=request.all)
    reply(pb.Empty())


def _exec(task: Task, request: pb.ExecProcessRequest, reply: Reply) -> None:
    if request.only_check_user:
        task.check_user(request.user)
    else:
        task.add_exec(request)
    reply(pb.Empty())


def _resize(task: Task, request: pb.ResizePtyRequest, reply: Reply) -> None:
    process = task.process(request.exec_id)
    if process.status == pb.STOPPED:
        raise NotFound(f"process of container {task.id} already finished")
    process.console_size = (request.height, request.width)
    process.resize(request.height, request.width)
    reply(pb.Empty())


def _close_io(task: Task, request: pb.CloseIORequest, reply: Reply) -> None:
    if request.stdin:
        task.process(request.exec_id).streams.input.close()
    reply(pb.Empty())


def _pids(task: Task, request: pb.PidsRequest, reply: Reply) -> None:
    reply(pb.PidsResponse(pids=task.live_container().pids()))


def _stats(task: Task, request: pb.StatsRequest, reply: Reply) -> None:
    reply(pb.StatsResponse(metrics=task.live_container().stats(), read_at=time.time_ns()))


def _pause(task: Task, request: pb.PauseRequest, reply: Reply) -> None:
    task.set_paused(True)
    reply(pb.Empty())


def _resume(task: Task, request: pb.ResumeRequest, reply: Reply) -> None:
    task.set_paused(False)
    reply(pb.Empty())


def _update(task: Task, request: pb.UpdateTaskRequest, reply: Reply) -> None:
    task.live_container().update(msgspec.json.decode(request.resources, type=oci.Resources))
    reply(pb.Empty())


def _wait(task: Task, request: pb.WaitRequest, reply: Reply) -> None:
    process = task.process(request.exec_id)

    def tell(process: Process) -> None:
        reply(
            pb.WaitResponse(
                exit_status=process.exit_status,
                exited_at=process.exited_at,
                oom_killed=process.oom_killed,
            )
        )

    if process.status == pb.STOPPED:
        tell(process)
    else:
        process.waiters.append(tell)


def _connect(task: Task, request: pb.ConnectRequest, reply: Reply) -> None:
    reply(pb.ConnectResponse(shim_pid=os.getpid(), task_pid=task.init.pid))


_METHODS: dict[str, tuple[Any, Method]] = {
    "Create": (pb.CreateTaskRequest, _create),
    "Start": (pb.StartRequest, _start),
    "Delete": (pb.DeleteRequest, _delete),
    "State": (pb.StateRequest, _state),
    "Kill": (pb.KillRequest, _kill),
    "Exec": (pb.ExecProcessRequest, _exec),
    "ResizePty": (pb.ResizePtyRequest, _resize),
    "CloseIO": (pb.CloseIORequest, _close_io),
    "Pids": (pb.PidsRequest, _pids),
    "Stats": (pb.StatsRequest, _stats),
    "Pause": (pb.PauseRequest, _pause),
    "Resume": (pb.ResumeRequest, _resume),
    "Update": (pb.UpdateTaskRequest, _update),
    "Wait": (pb.WaitRequest, _wait),
    "Connect": (pb.ConnectRequest, _connect),
}


def call(task: Task, method: str, request: bytes, reply: Callable[[bytes], None]) -> None:
    """Run *method*; *reply* gets its serialised response, now or later. Raises to fail."""
    if method not in _METHODS:
        raise Unimplemented(f"{method} is not a method of a task")
    kind, run = _METHODS[method]
    run(task, kind.FromString(request), lambda response: reply(response.SerializeToString()))
