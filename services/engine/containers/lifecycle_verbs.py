"""The verbs of a container's life: start, stop, remove, wait, attach, exec.

What changes a container runs to its end although the client goes away. A request that is sent again
because the engine was restarted (``attempt`` above 1) and finds its work done has succeeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from services.engine.containers import execs, remove, restart, start, stop, streams, wait
from services.engine.containers.model import Status
from services.engine.containers.services import Services
from services.engine.rpc import Context, Router
from services.protocol.api.execs import ExecInspect, IdReply
from services.protocol.errors import Conflict, NotFound, NotModified, WharfError
from services.protocol.verbs import Nothing, Ref
from services.protocol.verbs import containers as verbs
from services.protocol.verbs import execs as exec_verbs

T = TypeVar("T")


def register(router: Router, services: Services) -> None:
    """Serve the verbs of this module on *router*."""
    handlers = Handlers(services)
    router.add(verbs.START, handlers.start)
    router.add(verbs.STOP, handlers.stop)
    router.add(verbs.RESTART, handlers.restart)
    router.add(verbs.KILL, handlers.kill)
    router.add(verbs.PAUSE, handlers.pause)
    router.add(verbs.UNPAUSE, handlers.unpause)
    router.add(verbs.REMOVE, handlers.remove)
    router.add_stream(verbs.WAIT, handlers.wait)
    router.add(verbs.ATTACH, handlers.attach)
    router.add(verbs.LOGS, handlers.logs)
    router.add(verbs.RESIZE, handlers.resize)
    router.add(exec_verbs.CREATE, handlers.exec_create)
    router.add(exec_verbs.START, handlers.exec_start)
    router.add(exec_verbs.INSPECT, handlers.exec_inspect)
    router.add(exec_verbs.RESIZE, handlers.exec_resize)


class Handlers:
    """One method per verb: look up, run, answer."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def start(self, args: Ref, context: Context) -> Nothing:
        if context.attempt > 1 and wait.has_run(self._services, args.ref, context):
            return Nothing()  # it was started before the restart; its run must not be repeated
        entry = self._services.registry.get(args.ref)
        await self._change(start.start(self._services, entry), context, done=NotModified)
        return Nothing()

    async def stop(self, args: verbs.StopArgs, context: Context) -> Nothing:
        entry = self._services.registry.get(args.ref)
        try:
            work = stop.stop(self._services, entry, timeout=args.timeout, signal_name=args.signal)
            await self._change(work, context, done=NotModified)
        except NotModified:
            raise
        except WharfError as error:
            raise WharfError(f"cannot stop container: {args.ref}: {error}") from error
        return Nothing()

    async def restart(self, args: verbs.StopArgs, context: Context) -> Nothing:
        entry = self._services.registry.get(args.ref)
        work = restart.restart(self._services, entry, timeout=args.timeout, signal_name=args.signal)
        try:
            await self._change(work, context)
        except WharfError as error:
            raise type(error)(f"Cannot restart container {args.ref}: {error}") from error
        return Nothing()

    async def kill(self, args: verbs.KillArgs, context: Context) -> Nothing:
        try:
            await self._change(stop.kill_request(self._services, args.ref, args.signal), context)
        except (Conflict, NotFound):
            if not (context.repeated and wait.has_ended(self._services, args.ref, context)):
                raise
        return Nothing()

    async def pause(self, args: Ref, context: Context) -> Nothing:
        entry = self._services.registry.get(args.ref)
        if not (context.repeated and entry.state.status is Status.PAUSED):
            await self._change(stop.pause(self._services, entry), context)
        return Nothing()

    async def unpause(self, args: Ref, context: Context) -> Nothing:
        entry = self._services.registry.get(args.ref)
        if not (context.repeated and entry.state.status is Status.RUNNING):
            await self._change(stop.unpause(self._services, entry), context)
        return Nothing()

    async def remove(self, args: verbs.RemoveArgs, context: Context) -> Nothing:
        work = remove.remove_request(
            self._services, args.ref, force=args.force, volumes=args.volumes, link=args.link
        )
        await self._change(work, context, done=NotFound)
        return Nothing()

    async def wait(self, args: verbs.WaitArgs, context: Context) -> AsyncGenerator[verbs.Waited, None]:
        async for item in wait.wait(self._services, args, context):
            yield item

    async def attach(self, args: verbs.AttachArgs, _: Context) -> verbs.Stream:
        return await streams.attach(self._services, args)

    async def logs(self, args: verbs.LogsArgs, _: Context) -> verbs.Stream:
        return await streams.logs(self._services, args)

    async def resize(self, args: verbs.ResizeArgs, _: Context) -> Nothing:
        await streams.resize(self._services, args.ref, height=args.height, width=args.width)
        return Nothing()

    async def exec_create(self, args: exec_verbs.CreateArgs, context: Context) -> IdReply:
        return await execs.create(self._services, args.ref, args.config, context.request_id)

    async def exec_start(self, args: exec_verbs.StartArgs, context: Context) -> verbs.Stream:
        work = execs.start(self._services, args.ref, args.start, repeated=context.attempt > 1)
        return await self._to_the_end(work)

    async def exec_inspect(self, args: Ref, _: Context) -> ExecInspect:
        return await execs.inspect(self._services, args.ref)

    async def exec_resize(self, args: verbs.ResizeArgs, _: Context) -> Nothing:
        await execs.resize(self._services, args.ref, height=args.height, width=args.width)
        return Nothing()

    async def _change(
        self,
        work: Coroutine[Any, Any, None],
        context: Context,
        *,
        done: type[WharfError] | tuple[()] = (),
    ) -> None:
        """Run *work*; the error *done* of a repeated request means that the first one succeeded."""
        try:
            await self._to_the_end(work)
        except done:
            if context.attempt == 1:
                raise

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        outcome = await asyncio.shield(self._services.background.spawn(_caught(work), name="request"))
        if isinstance(outcome, WharfError):
            raise outcome
        return outcome


async def _caught(work: Coroutine[Any, Any, T]) -> T | WharfError:
    """Errors that are answers are values: only others are reported by the background."""
    try:
        return await work
    except WharfError as error:
        return error
