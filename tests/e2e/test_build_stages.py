"""Stages of a Dockerfile: at the same time, told in order, only those that are needed."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.harness.builds import begin, files, post, said, signals, wait_nothing_left
from tests.harness.engine import Engine
from tests.harness.readiness import wait_until

pytestmark = [pytest.mark.usefixtures("docker_command"), pytest.mark.timeout(400)]

ID = re.compile(r"\b[0-9a-f]{12}\b")


def build(engine: Engine, dockerfile: str, query: str = "nocache=1") -> tuple[list[str], str]:
    """What the steps said, ids left out; the error."""
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in post(engine, files(Dockerfile=dockerfile), query).splitlines()
    ]
    text = "".join(line.get("stream", "") for line in lines)
    return ID.sub("ID", text).splitlines(), "".join(line.get("error", "") for line in lines)


def own(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith((" ---> ", "Step", "Successfully"))]


_MEET = """RUN --mount=type=cache,target=/meet set -e; echo {0} begins; >/meet/{0}; \\
for other in a b c; do n=0; \\
while ! test -e /meet/$other; do n=$((n+1)); test $n -lt 3000; sleep 0.01; done; done; echo {0} ends"""
_MEETING = (
    *(f"FROM busybox AS {name}\n{_MEET.format(name)}; echo content >/c\n" for name in "abc"),
    "FROM busybox\nCOPY --from=c /c /c\nCOPY --from=a /bin/true /a\nRUN cat /c\n",
)


def test_stages_run_at_the_same_time_and_speak_in_order(engine: Engine) -> None:
    lines, error = build(engine, "".join(_MEETING))
    assert not error  # each waits until it has met the others
    said = [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    assert own(lines) == [*said, "content"]
    steps = [line for line in lines if line.startswith("Step")]
    assert [step.split()[1] for step in steps] == [f"{number}/10" for number in range(1, 11)]


def test_the_first_failure_in_the_order_of_the_file_is_told(engine: Engine) -> None:
    dockerfile = """FROM busybox AS slow
RUN sleep 0.5; echo slow fails; exit 3
FROM busybox AS quick
RUN exit 4
FROM busybox
RUN sleep 1000
COPY --from=slow / /
"""
    lines, error = build(engine, dockerfile, "nocache=1&forcerm=1")
    assert own(lines) == ["slow fails"]
    assert "returned a non-zero code: 3" in error
    wait_nothing_left(engine)


def test_stages_that_fail_at_the_same_time_leave_nothing(engine: Engine) -> None:
    """The first one cancels the others while they remove their containers."""
    dockerfile = "".join(f"FROM busybox\nRUN : {number}; exit 5\n" for number in range(6))
    for _ in range(4):
        assert "non-zero code: 5" in build(engine, dockerfile, "nocache=1&forcerm=1")[1]
    wait_nothing_left(engine)


def test_a_failure_waits_for_the_stages_before_it(engine: Engine) -> None:
    dockerfile = "FROM busybox AS a\nRUN sleep 0.5; echo a is done\nFROM busybox\nRUN exit 4\n"
    lines, error = build(engine, dockerfile, "nocache=1&forcerm=1")
    assert own(lines) == ["a is done"]
    assert "returned a non-zero code: 4" in error


def test_a_target_needs_only_some_stages(engine: Engine) -> None:
    dockerfile = """FROM busybox AS base
RUN echo from base
FROM busybox AS unneeded
ARG only
RUN echo never; exit 1
FROM base AS wanted
RUN echo from wanted
FROM busybox AS after
RUN exit 1
"""
    lines, error = build(engine, dockerfile, "nocache=1&target=Wanted&buildargs=%7B%22only%22:%22x%22%7D")
    assert not error
    assert own(lines) == ["from base", "from wanted"]
    at = lines.index("Step 5/7 : RUN echo never; exit 1")
    assert lines[at + 1] == " ---> Skipped: the target does not need it"
    assert "Step 7/7 : RUN echo from wanted" in lines
    # Without a target every stage is built, as dockerd does.
    assert "non-zero code: 1" in build(engine, dockerfile, "nocache=1&forcerm=1")[1]


def test_a_trigger_may_need_what_the_file_does_not(engine: Engine) -> None:
    trigger = "FROM busybox\nONBUILD COPY --from=data /made /got\n"
    assert not build(engine, trigger, "t=trigger")[1]
    dockerfile = "FROM busybox AS data\nRUN echo x >/made\nFROM trigger AS last\nRUN cat /got\n"
    lines, error = build(engine, dockerfile, "nocache=1&target=last")
    assert not error
    assert own(lines)[-1] == "x"


def test_a_failure_of_what_only_a_trigger_needs_is_told(engine: Engine) -> None:
    trigger = "FROM busybox\nONBUILD COPY --from=data /made /got\n"
    assert not build(engine, trigger, "t=trigger")[1]
    dockerfile = "FROM busybox AS data\nRUN echo last words; exit 3\nFROM trigger AS last\nRUN cat /got\n"
    lines, error = build(engine, dockerfile, "nocache=1&forcerm=1&target=last")
    assert "returned a non-zero code: 3" in error
    assert own(lines)[-1] == "last words"


def test_steps_in_common_are_taken_once(engine: Engine) -> None:
    stage = "FROM busybox\nRUN sleep 0.3; echo {0} common\n"
    name = f"{time.time_ns()}"
    dockerfile = f"{stage.format(name)}RUN echo one\n{stage.format(name)}RUN echo two\n"
    lines, error = build(engine, dockerfile, "")
    assert not error
    assert own(lines) == [f"{name} common", "one", "two"]
    assert lines.count(" ---> Using cache") == 1
    assert lines.index(" ---> Using cache") > lines.index("one")


def test_client_that_leaves_ends_all_stages(engine: Engine) -> None:
    dockerfile = "".join(f"FROM busybox\nRUN : {number}; sleep 300\n" for number in range(4))
    process = begin(engine, dockerfile)
    wait_until(lambda: engine.docker("ps", "-q").stdout.count("\n") == 4, "all stages run")
    since = time.time()
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_nothing_left(engine)
    assert signals(engine, since) == ["9"] * 4  # a stop would ask them first, and give them ten seconds


def test_what_a_build_needs_stays_while_others_clean_up(engine: Engine) -> None:
    steps = "".join(f"RUN echo {number} >/{number}\nLABEL n={number}\n" for number in range(5))
    dockerfile = (
        f"FROM busybox AS a\n{steps}FROM busybox\nRUN sleep 1\nCOPY --from=a /4 /x\n{steps}RUN cat /x\n"
    )
    over = threading.Event()

    def clean() -> None:
        while not over.is_set():
            for what in ("container", "image", "builder"):
                engine.docker(what, "prune", "-f")
            for image in engine.docker("images", "-aqf", "dangling=true").stdout.split():
                engine.docker("rmi", "-f", image, check=False)

    with ThreadPoolExecutor() as threads:
        cleaning = threads.submit(clean)
        try:
            lines, error = build(engine, dockerfile)
        finally:
            over.set()
        cleaning.result()
    assert not error
    assert own(lines) == ["4"]


def test_files_of_a_large_tree_are_no_links_to_each_other(engine: Engine) -> None:
    """Although the same files of the context are in three layers."""
    lines = (
        "FROM busybox AS a", "COPY many /x", "FROM a", "COPY many /y", "COPY many /z",
        "RUN cp -a /x /y /z /tmp && echo changed >/tmp/x/1 && cat /tmp/y/1 /tmp/z/1 && stat -c %h /z/1",
    )  # fmt: skip
    names = {f"many__{number}": "as it was\n" for number in range(600)}
    answer = said(post(engine, files(Dockerfile="\n".join(lines), **names), "nocache=1"))
    assert "\nas it was\nas it was\n1\n" in answer


def test_much_output_of_a_stage_that_waits_its_turn(engine: Engine) -> None:
    dockerfile = "FROM busybox AS a\nRUN sleep 1\nFROM busybox\nRUN seq 20000\n"
    lines, error = build(engine, dockerfile)
    assert not error
    assert own(lines) == [str(number) for number in range(1, 20001)]


def test_crash_of_the_engine_keeps_the_finished_steps_of_all_stages(engine: Engine) -> None:
    name = f"{time.time_ns()}"
    first = f"FROM busybox AS a\nRUN echo {name} a >/a\nRUN : {name} a; sleep {{0}}\n"
    second = f"FROM busybox\nRUN echo {name} b >/b\nRUN : {name} b; sleep {{0}}\n"
    process = begin(engine, (first + second).format(60))
    wait_until(lambda: engine.docker("ps", "--no-trunc").stdout.count("sleep 60") == 2, "both stages sleep")
    engine.kill("engine")
    process.kill()
    process.wait()
    engine.wait_ready()
    wait_nothing_left(engine)
    lines, error = build(engine, (first + second).format(0), "")
    assert not error
    assert lines.count(" ---> Using cache") == 2
