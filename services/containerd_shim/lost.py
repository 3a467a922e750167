"""A task whose shim died: a stopped one, answered for from its record."""

from __future__ import annotations

import signal
import time

from services.containerd_shim.state import ShimRecord
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, NotFound

#: Exit status of a container that had to be killed.
KILLED = 128 + signal.SIGKILL

#: Methods whose truth is the same when the shim has died over them.
ANSWERED = frozenset({"State", "Wait", "Delete", "Kill"})


def mark_lost(record: ShimRecord) -> None:
    """Its shim is dead, and so is its init: how that ended is known, or made up."""
    if record.status != "stopped":
        record.exit_status, record.exited_at = KILLED, time.time_ns()
    record.status, record.lost = "stopped", True


def lost_events(record: ShimRecord, at: int) -> list[pb.Envelope]:
    """``ShimLost``, and the exit of init if there was one; timestamps from *at* on.

    Those are not the time of the exit: whatever the shim told of last is earlier, or they would be taken
    for events that are known.
    """
    events = [pb.Envelope(timestamp=at, id=record.id, shim_lost=pb.ShimLost())]
    if record.pid:
        exit_ = pb.TaskExit(
            pid=record.pid,
            exit_status=record.exit_status,
            exited_at=record.exited_at,
            oom_killed=record.oom_killed,
        )
        events.append(pb.Envelope(timestamp=at + 1, id=record.id, exit=exit_))
    return events


def answer_lost(record: ShimRecord, method: str, request: bytes) -> bytes:
    """The response of a stopped task; its execs are gone with the shim."""
    if method == "State":
        return _of_init(pb.StateRequest.FromString(request), _state(record))
    if method == "Wait":
        response = pb.WaitResponse(
            exit_status=record.exit_status, exited_at=record.exited_at, oom_killed=record.oom_killed
        )
        return _of_init(pb.WaitRequest.FromString(request), response)
    if method == "Delete":
        deleted = pb.DeleteResponse(
            pid=record.pid, exit_status=record.exit_status, exited_at=record.exited_at
        )
        return _of_init(pb.DeleteRequest.FromString(request), deleted)
    if method == "Kill":
        raise NotFound(f"process of container {record.id} already finished")
    raise Conflict(f"container {record.id} is not running")


def _of_init(
    request: pb.StateRequest | pb.WaitRequest | pb.DeleteRequest,
    response: pb.StateResponse | pb.WaitResponse | pb.DeleteResponse,
) -> bytes:
    if request.exec_id:
        raise NotFound(f"exec {request.exec_id} of container {request.id} not found")
    return response.SerializeToString()


def _state(record: ShimRecord) -> pb.StateResponse:
    return pb.StateResponse(
        id=record.id,
        pid=record.pid,
        status=pb.STOPPED,
        exit_status=record.exit_status,
        exited_at=record.exited_at,
        started_at=record.started_at,
        oom_killed=record.oom_killed,
        bundle=record.bundle,
    )
