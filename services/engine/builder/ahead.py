"""Steps of a stage that need nothing of those before them, begun with the stage: what COPY and ADD take.

Sources in the context are summed, URLs fetched, while the commands of earlier steps run. That is so where
the words of the step have no variables. What goes wrong is told when it is the step's turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from services.engine.builder import copying
from services.engine.builder.copying import Copy, Origins
from services.engine.builder.copysources import Located
from services.engine.dockerfile.instructions import Instruction
from services.engine.helpers import Helpers
from services.engine.scopes import Background, shielded

_Found = tuple[AsyncExitStack, Copy, list[Located]]


class Ahead:
    """Of one stage. *slots* are the build's: what is looked for at the same time."""

    def __init__(
        self, background: Background, helpers: Helpers, tmp: Path, origins: Origins, slots: asyncio.Semaphore
    ) -> None:
        self._background = background
        self._helpers = helpers
        self._tmp = tmp
        self._origins = origins
        self._slots = slots
        #: By the step's place in memory: the stage holds it.
        self._tasks: dict[int, asyncio.Task[_Found]] = {}

    def begin(self, steps: Iterable[Instruction], escape: str) -> None:
        for step in steps:
            if _is_independent(step, escape):
                task = self._background.spawn(self._locate(step), name="sources", awaited=True)
                self._tasks[id(step)] = task

    async def _locate(self, step: Instruction) -> _Found:
        async with self._slots, AsyncExitStack() as stack:
            planned = await copying.plan(step, _as_it_is, _as_it_is, "/", self._origins)
            place = copying.located(self._helpers, self._tmp, planned)
            found = await stack.enter_async_context(place)
            return stack.pop_all(), planned, found

    @contextlib.asynccontextmanager
    async def located(self, step: Instruction, copy: Copy) -> AsyncIterator[list[Located]]:
        """As :func:`copying.located`."""
        if (task := self._tasks.pop(id(step), None)) is not None:
            stack, planned, found = await _result(task)
            async with stack:
                if replace(copy, destination=planned.destination) == planned:
                    yield found
                    return
        async with copying.located(self._helpers, self._tmp, copy) as found:
            yield found

    async def close(self) -> None:
        """For a stage that ends before all its steps are taken."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        for one in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(one, BaseException):
                await shielded(one[0].aclose())


async def _result(task: asyncio.Task[_Found]) -> _Found:
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        ended = (await asyncio.gather(task, return_exceptions=True))[0]
        if not isinstance(ended, BaseException):
            await shielded(ended[0].aclose())
        raise


def _as_it_is(text: str, **_: object) -> str:
    return text


def _is_independent(step: Instruction, escape: str) -> bool:
    if step.name not in ("copy", "add") or "from" in step.flags or step.node.heredocs:
        return False
    words = [*step.args, *(value for values in step.flags.values() for value in values)]
    return not any(char in word for word in words for char in ("$", '"', "'", escape))
