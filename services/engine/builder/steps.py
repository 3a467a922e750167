"""One step of a stage: from the cache, or executed; either way the stage has a new image."""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Awaitable, Callable, Sequence

from services.engine.builder import copying, running, runstep
from services.engine.builder.arguments import PREDEFINED
from services.engine.builder.mounts import Surroundings
from services.engine.builder.origins import chain_to_mount, origins
from services.engine.builder.output import short
from services.engine.builder.runstep import RunPlan
from services.engine.builder.stage import StageState
from services.engine.builder.tools import Tools
from services.engine.containers.create import check_request
from services.engine.containers.ids import new_id
from services.engine.dockerfile import settings
from services.engine.dockerfile.instructions import Instruction
from services.engine.dockerfile.words import expand
from services.engine.layers import Layer
from services.engine.scopes import settled, shielded
from services.protocol.api.containers import Config, CreateRequest
from services.protocol.release import API_VERSION


async def execute(tools: Tools, state: StageState, step: Instruction) -> None:
    """Raises :class:`BuildFailed` and the engine's own errors."""
    if step.name == "arg":
        await _arg(tools, state, step)
    elif step.name == "run":
        await _run(tools, state, step)
    elif step.name in ("copy", "add"):
        await _copy(tools, state, step)
    elif step.name == "workdir":
        await _workdir(tools, state, step)
    else:
        before = copy.deepcopy(state.config)
        if step.name == "healthcheck" and (test := settings.overridden_test(before)):
            await tools.output.say(f"Note: overriding previous HEALTHCHECK: [{' '.join(test)}]\n")
        expander = _as_it_is if step.literal else _expander(tools, state)
        words = settings.SETTINGS[step.name](state, step, expander)
        await _nothing_done(tools, state, before, words)


def _as_it_is(word: str) -> str:
    return word


def _expander(tools: Tools, state: StageState) -> functools.partial[str]:
    variables = {**tools.arguments.visible(), **state.environment()}
    return functools.partial(expand, env=variables, escape=tools.escape)


# Steps without a layer ----------------------------------------------------------------------------


async def _arg(tools: Tools, state: StageState, step: Instruction) -> None:
    expander = _expander(tools, state)
    words: list[str] = []
    for word in step.args:
        name, equals, default = word.partition("=")
        name, value = expander(name), expander(default) if equals else None
        tools.arguments.declare(name, value)
        words.append(f"{name}={value}" if equals else name)
    await _nothing_done(tools, state, copy.deepcopy(state.config), "ARG " + " ".join(words))


async def _nothing_done(tools: Tools, state: StageState, before: Config, words: str) -> None:
    """A step that only changed the configuration: an image without a layer of its own."""
    command = [*state.shell(), "#(nop) ", words]
    key = _key(tools, before, command)
    if await _from_cache(tools, state, key, " ".join(command)):
        return
    container = await _announce(tools, state, command)
    await _commit(tools, state, key, " ".join(command), None, state.config)
    await container()


async def _announce(tools: Tools, state: StageState, command: list[str]) -> Callable[[], Awaitable[None]]:
    """The words of a container that nobody will run. It is made only where it is to be kept.

    Raises what making it would, for the build's options.
    """
    request = _request(tools, state, command)
    if tools.args.remove:
        await running.warn(tools.output, check_request(tools.services, request, API_VERSION))
        name = short(new_id())
        await tools.output.say(f" ---> Running in {name}\n")
        text = f" ---> Removed intermediate container {name}\n"
        return functools.partial(tools.output.say, text)
    await running.make_container(tools.services, request, tools.context.name, tools.output)
    return _nothing


async def _nothing() -> None:
    return None


def _key(tools: Tools, config: Config, command: Sequence[str]) -> str:
    """What else the cache has to know is what times an image may show."""
    return tools.cache.key(config, command if tools.newest is None else [*command, f"@{tools.newest}"])


async def _from_cache(tools: Tools, state: StageState, key: str, created_by: str) -> bool:
    """*created_by* "": history does not tell the step from another."""
    if tools.args.no_cache or state.cache_missed:
        return False
    image_id = tools.cache.find(state.image_id, key)
    if image_id is not None and not tools.cache_sources.allow(image_id):
        image_id = None
    record = tools.images.store.by_id(image_id) if image_id else None
    if record is None and created_by:
        record = await tools.cache_sources.find(state, created_by)
    if record is None:
        state.cache_missed = True
        return False
    tools.pins.add(record.id)
    state.record = record
    await tools.output.say(" ---> Using cache\n")
    return True


async def _commit(
    tools: Tools,
    state: StageState,
    key: str,
    created_by: str,
    layer: Layer | None,
    config: Config,
    *,
    told: bool = True,
) -> None:
    """The step's image becomes the stage's. *told*: with an event; dockerd has none for COPY and ADD."""
    parent = state.image_id
    state.record = await tools.images.build(
        state.record,
        layer,
        config,
        author=state.author,
        created_by=created_by,
        pins=tools.pins,
        created=tools.newest,
        told=told,
    )
    await tools.cache.remember(parent, key, state.record.id)


# Steps with a layer -------------------------------------------------------------------------------


async def _workdir(tools: Tools, state: StageState, step: Instruction) -> None:
    before = copy.deepcopy(state.config)
    words = settings.workdir(state, step, _expander(tools, state))
    command = [*state.shell(), f"#(nop) {words}"]
    key = _key(tools, before, command)
    if await _from_cache(tools, state, key, " ".join(command)):
        return
    layer_id = new_id()
    await tools.layers.create(layer_id, state.chain_id, {})
    try:
        await tools.layers.make_directory(layer_id, state.config.working_dir)
        container = await _announce(tools, state, command)
        layer = await tools.layers.take(layer_id, tools.newest)
    finally:
        # Who is cancelled meanwhile has what was made all the same, and gives it back.
        await settled(tools.layers.remove(layer_id))
    await _commit_layer(tools, state, key, " ".join(command), layer)
    await container()


async def _commit_layer(
    tools: Tools, state: StageState, key: str, created_by: str, layer: Layer, *, told: bool = True
) -> None:
    try:
        await _commit(tools, state, key, created_by, layer, state.config, told=told)
    finally:
        await tools.layers.release(layer.chain_id)


def _request(
    tools: Tools, state: StageState, command: Sequence[str], env: Sequence[str] = ()
) -> CreateRequest:
    config = state.config
    return CreateRequest(
        image=state.image_id,
        # As with dockerd an empty list runs what the image would.
        cmd=list(command) or config.cmd,
        entrypoint=[""] if command else config.entrypoint,
        env=[*(config.env or []), *env],
        user=config.user,
        working_dir=config.working_dir,
        labels=config.labels,
        volumes=config.volumes,
        attach_stdout=True,
        attach_stderr=True,
        host_config=running.host_config(tools.args),
    )


async def _run(tools: Tools, state: StageState, step: Instruction) -> None:
    where = Surroundings(
        helpers=tools.helpers,
        layers=tools.layers,
        registry=tools.services.registry,
        caches=tools.caches,
        tmp=tools.tmp,
        context=tools.context,
        expand=_expander(tools, state),
        chain=functools.partial(chain_to_mount, tools),
    )
    async with runstep.planned(where, state, step) as plan:
        await _run_planned(tools, state, plan)


async def _run_planned(tools: Tools, state: StageState, plan: RunPlan) -> None:
    command = plan.command
    own = state.environment()
    extra = {name: value for name, value in sorted(tools.arguments.visible().items()) if name not in own}
    told = [
        f"{name}={value}"
        for name, value in extra.items()
        if name not in PREDEFINED or tools.arguments.declared(name)
    ]
    # As dockerd has it: "|0" where all that the command sees is not told.
    counted = [f"|{len(told)}", *told] if extra else []
    words = " ".join([*counted, *command])
    key = _key(tools, state.config, [*counted, *command, *plan.counted])
    if await _from_cache(tools, state, key, words if plan.told else ""):
        return
    request = _request(tools, state, command, [f"{name}={value}" for name, value in extra.items()])
    plan.prepare(request)
    async with tools.slots:
        await _run_container(tools, state, plan, request, key, words)


async def _run_container(
    tools: Tools, state: StageState, plan: RunPlan, request: CreateRequest, key: str, created_by: str
) -> None:
    entry = await running.make_container(tools.services, request, tools.context.name, tools.output)
    try:
        await plan.attach(entry)
        await running.run(tools.services, entry, tools.output, plan.command)
        await plan.detach(entry)
        # A container that is kept keeps its files.
        make = tools.layers.take if tools.args.remove else tools.layers.commit
        layer = await make(entry.id, tools.newest)
        await _commit_layer(tools, state, key, created_by, layer)
    except asyncio.CancelledError:
        await running.abandon(tools.services, entry)
        raise
    except Exception:
        if tools.args.force_remove:
            # To its end: a stage before this one that fails meanwhile cancels it.
            await shielded(running.drop(tools.services, entry, tools.output))
        raise
    if tools.args.remove and tools.removals is not None:
        await tools.removals.begin(entry)


async def _copy(tools: Tools, state: StageState, step: Instruction) -> None:
    where = origins(tools)
    expander = _expander(tools, state)
    raw = functools.partial(expander, quotes=False, escape="\\")
    copy_ = await copying.plan(step, expander, raw, state.config.working_dir, where)
    located = (
        tools.ahead.located(step, copy_) if tools.ahead else copying.located(tools.helpers, tools.tmp, copy_)
    )
    async with located as sources:
        for _ in range(sum(source.downloaded for source in sources)):
            await tools.output.say("\n")  # dockerd's end of a progress bar
        words = f"{copy_.name} {copy_.flags}{copying.checksum(sources)} in {copy_.written} "
        command = [*state.shell(), f"#(nop) {words}"]
        owners = (tools.owners or "") if copy_.from_context else ""
        key = _key(tools, state.config, [*command, owners])
        if await _from_cache(tools, state, key, " ".join(command)):
            return
        async with tools.slots:
            layer = await copying.copy_into(
                tools.layers,
                tools.helpers,
                copy_,
                sources,
                state.chain_id,
                last=tools.uses.left == 1,
                newest=tools.newest,
            )
        await _commit_layer(tools, state, key, " ".join(command), layer, told=False)
