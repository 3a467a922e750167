"""Rules without I/O: restart policies, health verdicts, signals, policies at boot."""

from __future__ import annotations

import pytest

from services.engine import signals
from services.engine.containers import health, policies, restart
from services.engine.containers.model import Container, ContainerState, Entry, HealthState, Status
from services.protocol.api.containers import Config, HealthLog, HostConfig, RestartPolicy
from services.protocol.errors import InvalidParameter

FAILED = restart.Exit(exit_code=1, ran_for=0.5, restart_count=0)


def policy(name: str, maximum: int = 0) -> RestartPolicy:
    return RestartPolicy(name=name, maximum_retry_count=maximum)


def ended(**changes: object) -> restart.Exit:
    values = {"exit_code": 1, "ran_for": 0.5, "restart_count": 0} | changes
    return restart.Exit(**values)  # type: ignore[arg-type]


def test_delays_double_up_to_a_minute() -> None:
    delay, delays = 0.0, []
    for _ in range(12):
        delay = restart.delay_after(ended(last_delay=delay), policy("always")) or 0.0
        delays.append(delay)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8] and delays[-2:] == [60.0, 60.0]


def test_a_good_run_forgets_the_delay() -> None:
    assert restart.delay_after(ended(last_delay=30.0, ran_for=10.0), policy("always")) == 0.1
    assert restart.delay_after(ended(last_delay=30.0, ran_for=9.9), policy("always")) == 60.0


@pytest.mark.parametrize(
    ("name", "maximum", "changes", "restarts"),
    [
        ("", 0, {}, False),
        ("no", 0, {}, False),
        ("always", 0, {"exit_code": 0}, True),
        ("always", 0, {"stop_requested": True}, False),
        ("always", 0, {"manually_stopped": True}, True),
        ("unless-stopped", 0, {"exit_code": 0}, True),
        ("unless-stopped", 0, {"manually_stopped": True}, False),
        ("on-failure", 0, {"exit_code": 0}, False),
        ("on-failure", 0, {"restart_count": 99}, True),
        ("on-failure", 2, {"restart_count": 1}, True),
        ("on-failure", 2, {"restart_count": 2}, False),
    ],
)
def test_policies(name: str, maximum: int, changes: dict[str, object], restarts: bool) -> None:
    assert (restart.delay_after(ended(**changes), policy(name, maximum)) is not None) is restarts
    assert restart.delay_after(FAILED, None) is None


@pytest.mark.parametrize(
    ("name", "state", "starts"),
    [
        ("always", ContainerState(status=Status.EXITED, manually_stopped=True), True),
        ("unless-stopped", ContainerState(status=Status.EXITED, manually_stopped=True), False),
        ("unless-stopped", ContainerState(status=Status.EXITED), True),
        ("on-failure", ContainerState(status=Status.EXITED, exit_code=0), False),
        ("on-failure", ContainerState(status=Status.EXITED, exit_code=255), True),
        ("always", ContainerState(status=Status.CREATED), False),
        ("no", ContainerState(status=Status.EXITED), False),
    ],
)
def test_policies_at_boot(name: str, state: ContainerState, starts: bool) -> None:
    definition = Container(
        id="0" * 64,
        name="c",
        created_at=1,
        path="",
        args=[],
        config=Config(),
        host_config=HostConfig(restart_policy=policy(name)),
        image_id="",
        image_reference="",
        chain_id="",
        driver="overlay2",
    )
    assert policies.wants_start(Entry(definition, state)) is starts


def result(code: int) -> HealthLog:
    return HealthLog(start="", end="", exit_code=code, output="")


def test_health_needs_as_many_failures_as_retries() -> None:
    check = health.Check(command=["x"], retries=3)
    state = HealthState()
    seen = []
    for code in (1, 1, 1, 0, 1):
        state = health.judge(state, result(code), age=100, check=check)
        seen.append((state.status, state.failing_streak))
    assert seen == [("starting", 1), ("starting", 2), ("unhealthy", 3), ("healthy", 0), ("healthy", 1)]


def test_failures_in_the_start_period_do_not_count_until_it_was_healthy_once() -> None:
    check = health.Check(command=["x"], retries=1, start_period=30)
    state = health.judge(HealthState(), result(1), age=5, check=check)
    assert (state.status, state.failing_streak) == ("starting", 0)
    state = health.judge(state, result(0), age=6, check=check)
    assert health.judge(state, result(1), age=7, check=check).status == "unhealthy"


def test_output_of_a_probe_says_that_there_was_more() -> None:
    assert health.shown(b"x" * 4096) == "x" * 4096
    assert health.shown(b"x" * 4097) == "x" * 4096 + "..."
    assert health.shown(b"\xff") == "\N{REPLACEMENT CHARACTER}"


def test_health_log_keeps_five() -> None:
    state = HealthState()
    for code in range(7):
        state = health.judge(state, result(code), age=1, check=health.Check(command=["x"]))
    assert [item.exit_code for item in state.log] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("sigterm", 15), ("9", 9), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX", 64)],
)
def test_signals(text: str, number: int) -> None:
    assert signals.parse(text) == number


@pytest.mark.parametrize("text", ["", "0", "NOSUCH", "SIG"])
def test_no_signals(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"invalid signal: {text}"):
        signals.parse(text)


def test_numbers_are_parsed_and_checked_apart() -> None:
    assert signals.parse("99") == 99
    assert not signals.is_supported(99) and signals.is_supported(64)
