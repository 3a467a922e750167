"""Which stages are needed, which name which, and what they have in common."""

from __future__ import annotations

import pytest

from services.engine.builder import graph
from services.engine.dockerfile.instructions import Stage, program
from services.engine.dockerfile.parser import parse

STAGES = """
FROM busybox AS base
RUN one
FROM base AS tests
RUN two
FROM busybox AS tools
RUN one
COPY a /a
FROM tools
COPY --from=base /x /y
RUN --mount=type=bind,from=0,target=/m true
FROM scratch AS last
COPY --from=Tools /a /b
"""


def stages(text: str = STAGES) -> tuple[Stage, ...]:
    return program(parse(text, "Dockerfile").nodes).stages


def needed(text: str, target: int) -> set[int]:
    return graph.needed(stages(text), target, lambda stage: stage.base)


@pytest.mark.parametrize(
    ("target", "expected"), [(0, {0}), (1, {0, 1}), (2, {2}), (3, {0, 2, 3}), (4, {2, 4})]
)
def test_only_what_a_stage_names_is_needed(target: int, expected: set[int]) -> None:
    assert needed(STAGES, target) == expected


def test_a_variable_may_name_any_stage_before() -> None:
    text = "FROM a AS x\nFROM b AS y\nFROM c\nARG from\nCOPY --from=$from /x /y\nFROM d\n"
    assert needed(text, 2) == {0, 1, 2}
    assert needed(text, 3) == {3}


def test_a_number_is_a_stage_for_copy_and_none_for_from() -> None:
    assert needed("FROM a\nFROM 0\n", 1) == {1}
    assert needed("FROM a\nFROM b\nCOPY --from=0 / /\n", 1) == {0, 1}


def test_stages_after_are_not_meant() -> None:
    assert needed("FROM later\nFROM a AS later\n", 0) == {0}
    assert needed("FROM a\nCOPY --from=0 / /\n", 0) == {0}


@pytest.mark.parametrize(("index", "expected"), [(0, (-1, 0)), (1, (-1, 0)), (2, (0, 1)), (4, (-1, 0))])
def test_the_first_steps_in_common(index: int, expected: tuple[int, int]) -> None:
    own = stages()
    assert graph.twin(own[:index], own[index]) == expected


def test_the_longest_beginning_counts() -> None:
    own = stages("FROM a\nRUN 1\nFROM a\nRUN 1\nRUN 2\nFROM a\nRUN 1\nRUN 2\nRUN 3\n")
    assert graph.twin(own[:2], own[2]) == (1, 2)


def test_uses_of_a_context_are_counted_down() -> None:
    own = stages()
    uses = graph.ContextUses.of(own)
    assert uses.left == len(own) + 2
    for stage in own:
        uses.begun()
        for step in stage.instructions:
            uses.done(step)
    assert uses.left == 0
