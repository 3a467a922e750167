"""A task whose shim died: a stopped one, answered for from its record."""

from __future__ import annotations

from services.containerd_shim.state import ShimRecord
from services.protocol import task_pb2 as pb
from services.protocol.errors import Conflict, NotFound


def lost_events(record: ShimRecord) -> list[pb.Envelope]:
    """``ShimLost``, and the exit of init if there was one."""
    at = record.exited_at
    events = [pb.Envelope(timestamp=at, id=record.id, shim_lost=pb.ShimLost())]
    if record.pid:
        exit_ = pb.TaskExit(
            pid=record.pid, exit_status=record.exit_status, exited_at=at, oom_killed=record.oom_killed
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
