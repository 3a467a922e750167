"""A build from its request to its image: context, Dockerfile, stages, steps, tags."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from services.engine.builder import context, options, running
from services.engine.builder.arguments import Arguments
from services.engine.builder.bases import Bases
from services.engine.builder.cache import BuildCache
from services.engine.builder.cachefrom import CacheSources
from services.engine.builder.cachemounts import CacheMounts
from services.engine.builder.graph import ContextUses
from services.engine.builder.output import Output, short
from services.engine.builder.pruning import Pruning
from services.engine.builder.records import Records
from services.engine.builder.squash import squash
from services.engine.builder.stages import Stages
from services.engine.builder.tools import Tools
from services.engine.containers.remove import remove
from services.engine.containers.services import Services
from services.engine.dockerfile.instructions import Program, program
from services.engine.dockerfile.parser import Dockerfile, parse
from services.engine.helpers import Helpers
from services.engine.images import ImageManager
from services.engine.images.model import Record
from services.engine.images.references import Reference
from services.engine.images.transfers import Transfers
from services.engine.layers import LayerManager
from services.engine.scopes import Background, settled, shielded
from services.protocol.errors import InvalidParameter, SystemError_, WharfError
from services.protocol.verbs.builder import BuildArgs, PruneArgs, PruneReply

log = logging.getLogger(__name__)


class Builder:
    """Builds run side by side; each has a context directory and an output of its own."""

    def __init__(
        self,
        services: Services,
        images: ImageManager,
        layers: LayerManager,
        helpers: Helpers,
        cache: BuildCache,
        background: Background,
        transfers: Transfers,
    ) -> None:
        self._services = services
        self._images = images
        self._layers = layers
        self._helpers = helpers
        self._cache = cache
        self._background = background
        self._transfers = transfers
        self._tmp = services.data_root / "tmp"
        self.caches = CacheMounts(services.data_root / "buildcache", helpers, background)
        self.records = Records(services, images, layers, cache, self.caches)
        self._pruning = Pruning(self.records, images, layers, cache, self.caches, services.data_root)

    async def recover(self) -> None:
        """Start-up, when containers are known: what builds had that a crash of the engine has ended.

        What cannot be removed is that build's alone: it waits for the next start.
        """
        await self.caches.sweep()
        ended = context.left(self._tmp)
        for build_id in list(ended):
            try:
                await self._remove_containers(build_id)
            except Exception:
                log.exception("containers of %s are not removed", build_id)
                ended.remove(build_id)
        await asyncio.to_thread(context.sweep, self._tmp, ended)

    async def _remove_containers(self, build_id: str) -> None:
        """All that can be removed; raises the first failure."""
        found = [entry for entry in self._services.registry if running.belongs_to(entry, build_id)]
        removals = (remove(self._services, entry, force=True, volumes=True) for entry in found)
        ended = await asyncio.gather(*removals, return_exceptions=True)
        for failure in filter(None, ended):
            raise failure

    async def prune(self, args: PruneArgs) -> PruneReply:
        reply = await self._pruning.prune(args)
        self._services.events.publish("builder", "prune", "", {"reclaimed": str(reply.space_reclaimed)})
        return reply

    async def build(self, args: BuildArgs, fd: int) -> AsyncGenerator[bytes, None]:
        """Output lines. What is wrong before the first step is raised; later errors are the last line.

        Takes over *fd*. A client that goes away cancels the build, and it leaves nothing.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, fd)
            tags = options.check(args, experimental=self._services.settings.experimental)
            async with context.scratch(self._tmp) as directory:
                filled = await context.fill(
                    self._helpers, self._tmp, directory, args.remote, args.dockerfile, fd
                )
                # A Dockerfile that a URL is of has no name.
                dockerfile = parse(filled.dockerfile, args.dockerfile if filled.owners is not None else "")
                whole = _until_target(program(dockerfile.nodes), args.target)
                output = Output(self._tmp, quiet=args.quiet)
                work = self._execute(args, tags, dockerfile, whole, directory, filled.owners, output)
                task = self._background.spawn(work, name="build")
                left = True
                try:
                    async for line in output.lines():
                        yield line
                    left = False
                finally:
                    task.cancel()
                    await settled(asyncio.gather(task, return_exceptions=True))
                    if left:
                        # A step that fails just then keeps its container, as a failed step does.
                        await shielded(self._remove_containers(directory.name))

    async def _execute(
        self,
        args: BuildArgs,
        tags: list[Reference],
        dockerfile: Dockerfile,
        whole: Program,
        directory: Path,
        owners: str | None,
        output: Output,
    ) -> None:
        with self._cache.pins() as pins, running.building(self._services, directory.name):
            result = ""
            try:
                tools = self._tools(args, dockerfile, whole, directory, owners, output, pins)
                result = await self._run(tools, tags, dockerfile, whole, output)
            except WharfError as error:
                await output.failed(error)
            except Exception as error:
                log.exception("a build failed")
                await output.failed(SystemError_(str(error) or type(error).__name__))
            except asyncio.CancelledError:
                output.cut()
                raise
            await output.close(result)
            self._cache.touch(pins)

    def _tools(
        self,
        args: BuildArgs,
        dockerfile: Dockerfile,
        whole: Program,
        directory: Path,
        owners: str | None,
        output: Output,
        pins: set[str],
    ) -> Tools:
        newest = options.newest(args.build_args)
        return Tools(
            services=self._services,
            images=self._images,
            layers=self._layers,
            helpers=self._helpers,
            cache=self._cache,
            pins=pins,
            cache_sources=CacheSources(self._images, self._layers, args.cache_from, newest, pins),
            args=args,
            output=output,
            arguments=Arguments(args.build_args),
            escape=dockerfile.escape,
            context=directory,
            tmp=self._tmp,
            bases=Bases(self._images, self._transfers, args.registry_config, pins, always=args.pull),
            caches=self.caches,
            owners=owners,
            newest=newest,
            uses=ContextUses.of(whole.stages),
            slots=asyncio.Semaphore(_at_once()),
        )

    async def _run(
        self, tools: Tools, tags: list[Reference], dockerfile: Dockerfile, whole: Program, output: Output
    ) -> str:
        """The image's id."""
        args = tools.args
        for warning in dockerfile.warnings:
            await output.error(f"{warning}\n")
        stages = Stages(tools, output, whole, self._background, only_needed=bool(args.target))
        record = await stages.run()
        if unused := tools.arguments.unused():
            await output.say(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        if args.squash:
            record = await squash(tools, record, stages.base)
            await output.result(record.id, "moby.image.id")
        await self._cache.remember_result(record.id)
        await output.say(f"Successfully built {short(record.id)}\n")
        await self._tag(tags, record, output)
        return record.id

    async def _tag(self, tags: list[Reference], record: Record, output: Output) -> None:
        for reference in tags:
            await self._images.tag(record.id, reference.familiar_name, reference.tag)
            await output.say(f"Successfully tagged {reference.familiar}\n")


def _at_once() -> int:
    """RUN and COPY of one build at work at the same time: some of them wait for a network."""
    return max(4, 2 * len(os.sched_getaffinity(0)))


def _until_target(whole: Program, target: str) -> Program:
    if not target:
        return whole
    for stage in whole.stages:
        if stage.name == target.lower():
            return Program(whole.arguments, whole.stages[: stage.index + 1])
    raise InvalidParameter(f'target stage "{target}" could not be found')
