"""One step of a stage: from the cache, or executed; either way the stage has a new image."""

from __future__ import annotations

import asyncio
import copy
import functools
import re
from collections.abc import Awaitable, Callable, Sequence

from services.engine.builder import copying, running, runstep
from services.engine.builder.arguments import PREDEFINED
from services.engine.builder.mounts import Surroundings
from services.engine.builder.output import BuildFailed, short
from services.engine.builder.runstep import RunPlan
from services.engine.builder.stage import StageState
from services.engine.builder.tools import Tools
from services.engine.containers.ids import new_id
from services.engine.dockerfile import settings
from services.engine.dockerfile.instructions import Instruction
from services.engine.dockerfile.words import expand
from services.engine.layers import Layer
from services.engine.scopes import shielded
from services.protocol.api.containers import Config, CreateRequest
from services.protocol.errors import WharfError

#: Of a stage, as Go's ``strconv.ParseInt`` reads it.
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


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
    """The words of a container that nobody will run. It is made only where it is to be kept."""
    if tools.args.remove:
        name = short(new_id())
        await tools.output.say(f" ---> Running in {name}\n")
        text = f" ---> Removed intermediate container {name}\n"
        return functools.partial(tools.output.say, text)
    request = _request(tools, state, command)
    entry = await running.make_container(tools.services, request, tools.context.name)
    await tools.output.say(f" ---> Running in {short(entry.id)}\n")
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
    tools: Tools, state: StageState, key: str, created_by: str, layer: Layer | None, config: Config
) -> None:
    """The step's image becomes the stage's."""
    parent = state.image_id
    state.record = await tools.images.build(
        state.record,
        layer,
        config,
        author=state.author,
        created_by=created_by,
        pins=tools.pins,
        created=tools.newest,
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
    container = await _announce(tools, state, command)
    layer_id = new_id()
    await tools.layers.create(layer_id, state.chain_id, {})
    try:
        await tools.layers.make_directory(layer_id, state.config.working_dir)
        layer = await tools.layers.take(layer_id, tools.newest)
    finally:
        await shielded(tools.layers.remove(layer_id))
    await _commit_layer(tools, state, key, " ".join(command), layer)
    await container()


async def _commit_layer(tools: Tools, state: StageState, key: str, created_by: str, layer: Layer) -> None:
    try:
        await _commit(tools, state, key, created_by, layer, state.config)
    finally:
        await tools.layers.release(layer.chain_id)


def _request(
    tools: Tools, state: StageState, command: Sequence[str], env: Sequence[str] = ()
) -> CreateRequest:
    config = state.config
    return CreateRequest(
        image=state.image_id,
        cmd=list(command),
        entrypoint=[""],
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
        chain=functools.partial(_chain_to_mount, tools),
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
    counted = [f"|{len(told)}", *told] if told else []
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
    entry = await running.make_container(tools.services, request, tools.context.name)
    try:
        await tools.output.say(f" ---> Running in {short(entry.id)}\n")
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


def origins(tools: Tools) -> copying.Origins:
    context = tools.context if tools.owners is not None else None
    return copying.Origins(context, tools.layers, functools.partial(_chain, tools))


async def _copy(tools: Tools, state: StageState, step: Instruction) -> None:
    where = origins(tools)
    expander = _expander(tools, state)
    raw = functools.partial(expander, quotes=False, escape="\\")
    copy_ = await copying.plan(step, expander, raw, state.config.working_dir, where)
    located = (
        tools.ahead.located(step, copy_) if tools.ahead else copying.located(tools.helpers, tools.tmp, copy_)
    )
    async with located as sources:
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
        await _commit_layer(tools, state, key, " ".join(command), layer)


async def _chain(tools: Tools, origin: str) -> str:
    """The layers of a stage (by name or number) or of an image, for ``--from`` and ``from=``; "" if it
    has none."""
    stage = await tools.stages.find(origin, tools.stage_index, by_number=True) if tools.stages else None
    if stage is None and _NUMBER.fullmatch(origin):
        where = "refers to current build stage" if int(origin) == tools.stage_index else "index out of bounds"
        raise BuildFailed(f"invalid from flag value {origin}: {where}")
    if stage is not None:
        chain = stage.chain_id
    else:
        try:
            chain = (await tools.bases.get(origin, "", tools.output)).chain_id
        except WharfError as error:
            raise BuildFailed(f"invalid from flag value {origin}: {error}") from error
    return chain


async def _chain_to_mount(tools: Tools, origin: str) -> str:
    """As :func:`_chain`, of what has a file system."""
    chain = await _chain(tools, origin)
    if not chain:
        raise BuildFailed(f"invalid from flag value {origin}: it has no file system")
    return chain
