"""What the stages of a Dockerfile need of each other, and which of them say the same.

Known from the text alone. A name with a variable may be that of any stage before; the triggers of a
base image are not known yet, and their stages are waited for when they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from services.engine.dockerfile.instructions import Instruction, Stage

_MOUNT_FROM = re.compile(r"(?:^|,)from=([^,]*)")


def needed(stages: Sequence[Stage], target: int, base: Callable[[Stage], str]) -> set[int]:
    """Indexes of *target* and all stages that it needs. *base* is the expanded name of FROM."""
    found: set[int] = set()
    pending = [target]
    while pending:
        index = pending.pop()
        if index not in found:
            found.add(index)
            for name in _names(stages[index], base):
                pending += named(stages[:index], name)
    return found


def named(earlier: Sequence[Stage], name: str) -> list[int]:
    """The stages that *name* may mean: one, none, or any if it has a variable."""
    if "$" in name:
        return [stage.index for stage in earlier]
    low = name.lower()
    by_name = [stage.index for stage in earlier if stage.name == low]
    return by_name[-1:] or [stage.index for stage in earlier if str(stage.index) == name]


@dataclass
class ContextUses:
    """How often the build may still look at its context: who is the last to copy from it may move."""

    left: int

    @classmethod
    def of(cls, stages: Sequence[Stage]) -> ContextUses:
        """A stage that has not begun counts as well: its base may have triggers."""
        steps = (step for stage in stages for step in stage.instructions)
        return cls(len(stages) + sum(map(uses_context, steps)))

    def triggered(self, steps: Sequence[Instruction]) -> None:
        """Of triggers, which come before :meth:`begun`: each may be followed by another."""
        self.left += sum(map(uses_context, steps))

    def begun(self) -> None:
        self.left -= 1

    def done(self, step: Instruction) -> None:
        self.left -= uses_context(step)


def uses_context(step: Instruction) -> bool:
    if step.name in ("copy", "add"):
        return "from" not in step.flags
    return "mount" in step.flags


def _names(stage: Stage, base: Callable[[Stage], str]) -> Iterator[str]:
    if not (name := base(stage)).isdigit():  # a number is no stage for FROM
        yield name
    for step in stage.instructions:
        yield from _sources(step)


def _sources(step: Instruction) -> Iterator[str]:
    if step.name in ("copy", "add"):
        yield step.flag("from")
    for mount in step.flags.get("mount", ()):
        yield from _MOUNT_FROM.findall(mount)


def twin(earlier: Sequence[Stage], own: Stage) -> tuple[int, int]:
    """The stage that has most first steps in common with *own*, and how many; (-1, 0) if none has any.

    One at a time takes such steps, so that the others find them in the cache, as when stages are
    built in order.
    """
    best = (-1, 0)
    for stage in earlier:
        same = _common(stage, own)
        if same > best[1]:
            best = (stage.index, same)
    return best


def same_base(one: Stage, other: Stage) -> bool:
    """As far as the text tells."""
    return one.base == other.base and one.origin.flags == other.origin.flags


def _common(one: Stage, other: Stage) -> int:
    if not same_base(one, other):
        return 0
    count = 0
    for mine, theirs in zip(one.instructions, other.instructions, strict=False):
        if mine.node.original != theirs.node.original:
            break
        count += 1
    return count
