"""The state table: what leads where, what is refused with which words."""

from __future__ import annotations

import pytest

from services.engine.containers import transitions
from services.engine.containers.model import ContainerState, HealthState, Status
from services.protocol.errors import Conflict, NotModified, SystemError_

RUNNING = transitions.running(ContainerState(), pid=7, started_at=10, health=None)
ENDING = transitions.Ending(exit_code=3, finished_at=20)


def test_a_run_leaves_nothing_of_the_one_before() -> None:
    old = transitions.exited(RUNNING, transitions.Ending(exit_code=9, finished_at=20, oom_killed=True))
    old = transitions.start_failed(old, message="no", exit_code=127, now=30)
    new = transitions.running(old, pid=8, started_at=40, health=None)
    assert (new.pid, new.exit_code, new.error, new.oom_killed) == (8, 0, "", False)
    assert new.finished_at == 20 and new.has_been_started


def test_functions_do_not_change_their_argument() -> None:
    transitions.exited(RUNNING, ENDING)
    assert RUNNING.status is Status.RUNNING and RUNNING.pid == 7


def test_exit_of_a_paused_container() -> None:
    state = transitions.exited(transitions.paused(RUNNING), ENDING, auto_remove=True)
    assert (state.status, state.pid, state.exit_code) == (Status.EXITED, 0, 3)
    assert state.auto_remove_pending


def test_times_of_exits_never_repeat() -> None:
    first = transitions.exited(RUNNING, ENDING)
    again = transitions.running(first, pid=9, started_at=15, health=None)
    second = transitions.exited(again, transitions.Ending(exit_code=0, finished_at=5))
    assert second.finished_at > first.finished_at


def test_restarting_counts_and_can_be_given_up() -> None:
    state = transitions.restarting(transitions.restarting(RUNNING, ENDING) and RUNNING, ENDING)
    assert (state.status, state.restart_count) == (Status.RESTARTING, 1)
    assert transitions.restart_given_up(state).exit_code == 3
    assert transitions.manually_started(state).restart_count == 0


def test_failed_start_keeps_the_status() -> None:
    failed = transitions.start_failed(ContainerState(), message="no such file", exit_code=127, now=5)
    assert (failed.status, failed.exit_code, failed.error) == (Status.CREATED, 127, "no such file")
    plain = transitions.start_failed(ContainerState(), message="x", exit_code=None, now=5)
    assert plain.exit_code == transitions.START_FAILED
    waiting = transitions.restarting(RUNNING, ENDING)
    ended = transitions.start_failed(waiting, message="x", exit_code=None, now=50)
    assert (ended.status, ended.exit_code, ended.finished_at) == (Status.EXITED, 3, 50)


def test_health_is_unhealthy_when_nobody_looks_any_more() -> None:
    state = transitions.running(ContainerState(), pid=1, started_at=1, health=HealthState(status="healthy"))
    ended = transitions.exited(state, ENDING)
    assert ended.health is not None and ended.health.status == "unhealthy"
    waiting = transitions.paused(state)
    assert waiting.health is not None and waiting.health.status == "unhealthy"
    assert transitions.unpaused(waiting).health == waiting.health


@pytest.mark.parametrize("old", list(Status))
@pytest.mark.parametrize("new", list(Status))
def test_moves_are_those_of_the_table(old: Status, new: Status) -> None:
    state = ContainerState(status=old)
    if new in transitions.ALLOWED[old]:
        assert transitions._move(state, new).status is new
    else:
        with pytest.raises(transitions.InvalidTransition):
            transitions._move(state, new)


def test_start_is_refused_by_state() -> None:
    for status in (Status.RUNNING, Status.RESTARTING):
        with pytest.raises(NotModified):
            transitions.check_start(ContainerState(status=status))
    with pytest.raises(Conflict, match="cannot start a paused container, try unpause instead"):
        transitions.check_start(ContainerState(status=Status.PAUSED))
    with pytest.raises(Conflict, match="container is marked for removal and cannot be started"):
        transitions.check_start(ContainerState(status=Status.DEAD))
    transitions.check_start(ContainerState(status=Status.EXITED))


def test_exec_and_pause_name_what_is_in_the_way() -> None:
    with pytest.raises(Conflict, match="Container name is paused, unpause the container before exec"):
        transitions.check_exec(ContainerState(status=Status.PAUSED), "id", "name")
    with pytest.raises(Conflict, match="Container id is restarting, wait until the container is running"):
        transitions.check_pause(ContainerState(status=Status.RESTARTING), "id")
    with pytest.raises(Conflict, match="container id is not running"):
        transitions.check_exec(ContainerState(), "id", "name")
    with pytest.raises(SystemError_, match="Container id is not paused"):
        transitions.check_unpause(RUNNING, "id")


def test_remove_names_the_container_and_the_state() -> None:
    with pytest.raises(Conflict, match='container "n": container is running: stop the container before'):
        transitions.check_remove(RUNNING, "n")
    with pytest.raises(Conflict, match="is paused and must be unpaused first"):
        transitions.check_remove(transitions.paused(RUNNING), "n")
    transitions.check_remove(transitions.exited(RUNNING, ENDING), "n")
