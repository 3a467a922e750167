"""The stages of one build at work: all that are needed at the same time, told in the file's order.

A stage waits only for stages before it, when it asks for one of them. The first failure in the file's
order is the build's: a stage that fails ends those after it, and those before it go on, for one of
them may fail as well.

dockerd builds every stage up to the target, so without ``--target`` all are built: files are written
that rely on it (a stage of tests that nothing is copied from). With ``--target`` only what it needs is;
the steps of the others are counted and listed, so that numbers stay those of dockerd.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
from dataclasses import dataclass, field

from services.engine.builder import graph, steps
from services.engine.builder.ahead import Ahead
from services.engine.builder.arguments import Arguments
from services.engine.builder.origins import origins
from services.engine.builder.output import BuildFailed, Output, Speech, StageOutput
from services.engine.builder.running import Removals
from services.engine.builder.stage import StageState
from services.engine.builder.tools import Tools
from services.engine.dockerfile.instructions import Instruction, Program, Stage, label, single
from services.engine.dockerfile.words import expand
from services.engine.images.model import Record
from services.engine.registry import platforms
from services.engine.scopes import Background
from services.protocol.errors import InvalidParameter

_SKIPPED = " ---> Skipped: the target does not need it\n"


@dataclass
class _Work:
    """A stage that has been begun. ``passed`` counts its finished steps, and ``moved`` tells of them."""

    task: asyncio.Task[StageState]
    output: StageOutput
    passed: int = 0
    #: Whether its base image's triggers are done.
    triggered: bool = False
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def step(self) -> None:
        self.passed += 1
        self._tell()

    def begun(self) -> None:
        self.triggered = True
        self._tell()

    def _tell(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()


class Stages:
    """Implements :class:`steps.Stages`. One use: :meth:`run`."""

    def __init__(
        self, tools: Tools, output: Output, whole: Program, background: Background, *, only_needed: bool
    ) -> None:
        self._tools = tools
        self._output = output
        self._whole = whole
        self._stages = whole.stages
        self._background = background
        self._only_needed = only_needed
        self._labels = [label(name, value) for name, value in sorted(tools.args.labels.items())]
        lengths = [1 + len(stage.instructions) for stage in whole.stages]
        self._total = len(whole.arguments) + sum(lengths) + len(self._labels)
        self._first = [len(whole.arguments) + 1 + sum(lengths[:at]) for at in range(len(lengths))]
        self._work: dict[int, _Work] = {}
        #: Sources that are looked for ahead of their steps, at the same time.
        self._looks = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        #: What the last stage began with.
        self.base: Record | None = None

    async def run(self) -> Record:
        """The target's image, when all is said. Raises what the first failing step raised."""
        for number, step in enumerate(self._whole.arguments, 1):
            await self._head(self._output, number, step)
            _declare_meta(self._tools.arguments, step, self._tools.escape)
        if not self._stages:
            raise BuildFailed("No image was generated. Is your Dockerfile empty?")
        try:
            for index in self._wanted():
                self._begin(index)
            for stage in self._stages:
                await self._tell(stage)
            state = self._work[len(self._stages) - 1].task.result()
        finally:
            await self._end()
        if state.record is None:
            raise BuildFailed("No image was generated. Is your Dockerfile empty?")
        return state.record

    def _wanted(self) -> list[int]:
        if not self._only_needed:
            return list(range(len(self._stages)))
        return sorted(graph.needed(self._stages, len(self._stages) - 1, self._base_name))

    def _base_name(self, stage: Stage) -> str:
        return self._expand(stage.base)

    def _expand(self, word: str) -> str:
        """With what FROM may use."""
        return expand(word, self._tools.arguments.for_from(), self._tools.escape)

    async def _head(self, output: Speech, number: int, step: Instruction) -> None:
        await output.say(f"Step {number}/{self._total} : {step.node.original}")
        await output.say("\n")

    async def _tell(self, stage: Stage) -> None:
        """Everything that *stage* says, to its end."""
        work = self._work.get(stage.index)
        if work is not None:
            await work.output.go_live()
            await asyncio.wait([work.task])
            if work.task.cancelled():
                work = await self._failed(work)
            work.task.result()
            return
        for number, step in enumerate((stage.origin, *stage.instructions), self._first[stage.index]):
            self._tools.arguments.mention(step)
            await self._head(self._output, number, step)
            await self._output.say(_SKIPPED)

    async def _failed(self, ended: _Work) -> _Work:
        """The stage whose failure has *ended* a later one: it was taken for one that is not needed, until a
        trigger asked for it. It says now what it has said."""
        for _, work in sorted(self._work.items()):
            if work.task.done() and not work.task.cancelled() and work.task.exception() is not None:
                await work.output.go_live()
                return work
        return ended

    async def _end(self) -> None:
        for work in self._work.values():
            work.task.cancel()
        await asyncio.gather(*(work.task for work in self._work.values()), return_exceptions=True)
        for work in self._work.values():
            work.output.close()

    # The tasks ------------------------------------------------------------------------------------

    def _begin(self, index: int) -> _Work:
        output = StageOutput(self._output, self._tools.tmp)
        tools = dataclasses.replace(
            self._tools,
            output=output,
            arguments=self._tools.arguments.of_stage(),
            # A source that was found is kept to, within the stage (moby: imageProber.Reset).
            cache_sources=self._tools.cache_sources.fresh(),
            stages=self,
            stage_index=index,
        )
        work = self._stage(tools, self._stages[index])
        task = self._background.spawn(work, name=f"stage {index}", awaited=True)
        task.add_done_callback(functools.partial(self._ended, index))
        self._work[index] = _Work(task, output)
        return self._work[index]

    def _ended(self, index: int, task: asyncio.Task[StageState]) -> None:
        self._work[index].moved.set()
        if task.cancelled() or task.exception() is None:
            return
        for other, work in self._work.items():
            if other > index:
                work.task.cancel()

    async def find(self, name: str, before: int, *, by_number: bool) -> StageState | None:
        """The stage before *before* that is called *name*, when it is built; None if there is none."""
        found = graph.named(self._stages[:before], name) if "$" not in name else []
        if not found or (name.isdigit() and not by_number):
            return None
        # Not begun: the trigger of a base image wants what the file does not need.
        work = self._work.get(found[0]) or self._begin(found[0])
        await asyncio.wait([work.task])
        return work.task.result()

    async def _stage(self, tools: Tools, stage: Stage) -> StageState:
        tools.removals = Removals(tools.services, tools.output)
        try:
            state = await self._build(tools, stage)
            if state.record is not None:
                await tools.cache.remember_result(state.record.id)
            return state
        finally:
            await tools.removals.finish()

    async def _build(self, tools: Tools, stage: Stage) -> StageState:
        if stage.name and any(stage.name == earlier.name for earlier in self._stages[: stage.index]):
            raise BuildFailed(f"{stage.name} stage name already used")
        number = self._first[stage.index]
        await self._head(tools.output, number, stage.origin)
        state = StageState()
        base = await self._base(tools, stage)
        if stage is self._stages[-1]:
            self.base = base
        state.begin(base)
        triggers = state.config.on_build if isinstance(state.config.on_build, list) else []
        if triggers:
            await self._after_triggers(stage)
            await _trigger(tools, state, triggers)
        self._work[stage.index].begun()
        tools.uses.begun()
        if state.record is None:
            await tools.output.say(" ---> \n")
        else:
            await tools.output.image(state.image_id)
        tools.ahead = Ahead(self._background, tools.helpers, tools.tmp, origins(tools), self._looks)
        tools.ahead.begin(stage.instructions, tools.escape)
        try:
            await self._steps(tools, stage, state)
        finally:
            await tools.ahead.close()
        if state.record is not None:
            await tools.output.result(state.image_id)
        return state

    async def _steps(self, tools: Tools, stage: Stage, state: StageState) -> None:
        number = self._first[stage.index]
        last = stage.index == len(self._stages) - 1
        for at, step in enumerate([*stage.instructions, *(self._labels if last else ())]):
            await self._after_twin(stage.index, at)
            await self._head(tools.output, number + 1 + at, step)
            await steps.execute(tools, state, step)
            tools.uses.done(step)
            await tools.output.image(state.image_id)
            self._work[stage.index].step()

    async def _after_twin(self, index: int, at: int) -> None:
        """A step that a stage before this one takes as well is left to it."""
        begun = [stage for stage in self._stages[:index] if stage.index in self._work]
        twin, same = graph.twin(begun, self._stages[index])
        work = self._work.get(twin)
        if work is None or at >= same or self._tools.args.no_cache:
            return
        while work.passed <= at and not work.task.done():
            await work.moved.wait()

    async def _after_triggers(self, stage: Stage) -> None:
        """A stage before this one that begins with the same image takes its triggers first."""
        for other in self._stages[: stage.index]:
            work = self._work.get(other.index)
            if work is None or not graph.same_base(other, stage) or self._tools.args.no_cache:
                continue
            while not work.triggered and not work.task.done():
                await work.moved.wait()

    async def _base(self, tools: Tools, stage: Stage) -> Record | None:
        """The image a stage begins with; None for scratch."""
        platform = _checked(self._expand(stage.origin.flag("platform"))) or self._tools.args.platform
        name = self._base_name(stage)
        if not name:
            raise BuildFailed(f"base name ({stage.base}) should not be blank")
        earlier = await self.find(name, stage.index, by_number=False)
        if earlier is not None:
            return earlier.record
        if name == "scratch":
            if platform and platforms.parse(platform).os != platforms.host().os:
                raise BuildFailed("operating system is not supported")
            return None
        return await tools.bases.get(name, platform, tools.output)


def _checked(platform: str) -> str:
    try:
        if platform:
            platforms.parse(platform)
    except InvalidParameter as error:
        raise BuildFailed(f"failed to parse platform {platform}: {error}") from error
    return platform


async def _trigger(tools: Tools, state: StageState, triggers: list[str]) -> None:
    state.config.on_build = None
    plural = "" if len(triggers) == 1 else "s"
    await tools.output.say(f"# Executing {len(triggers)} build trigger{plural}\n")
    instructions = [single(text, tools.escape) for text in triggers]
    tools.uses.triggered(instructions)
    for step in instructions:
        await steps.execute(tools, state, step)
        tools.uses.done(step)


def _declare_meta(arguments: Arguments, step: Instruction, escape: str) -> None:
    for word in step.args:
        name, equals, default = word.partition("=")
        value = expand(default, arguments.for_from(), escape) if equals else None
        arguments.declare_meta(expand(name, arguments.for_from(), escape), value)
