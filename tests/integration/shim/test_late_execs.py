"""Execs whose client is handed over when the container has paused, or ended, since they were registered."""

from __future__ import annotations

from services.protocol import task_pb2 as pb
from services.protocol.shim import EXEC_IN_PAUSED, Attach
from tests.harness.shims import Service, frames, hand_over, read_all


def begin(path: str) -> str:
    """What the client of the exec reads, to the end."""
    attach = Attach(exec_id="e", stdout=True, stderr=True, start=True)
    return frames(read_all(hand_over(path, attach)))[1].decode()


def exit_of(service: Service, name: str) -> tuple[int, int]:
    state = service.call("State", pb.StateRequest(id=name, exec_id="e"))
    return state.status, state.exit_status


def test_a_paused_container_refuses_it(service: Service, name: str) -> None:
    path = service.run(name, "sleep", "100")
    service.add_exec(name, "e", "true")
    service.call("Pause", pb.PauseRequest(id=name))
    assert begin(path) == f"{EXEC_IN_PAUSED}\r\n"
    assert exit_of(service, name) == (pb.STOPPED, 126)
    service.call("Resume", pb.ResumeRequest(id=name))
    service.delete(name)


def test_a_container_that_has_ended_refuses_it(service: Service, name: str) -> None:
    path = service.shell(name, service.gate(name))
    service.add_exec(name, "e", "true")
    service.open_gate(name)
    assert service.wait(name) == 0
    assert begin(path) == f"container {name} is not running\r\n"
    assert exit_of(service, name) == (pb.STOPPED, 126)
    service.delete(name)
