"""The verb of ``docker build``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.engine.builder.build import Builder
from services.engine.rpc import Context, Router
from services.protocol.verbs import builder as verbs


def register(router: Router, builder: Builder) -> None:
    """Serve the verb of this module on *router*."""

    async def build(args: verbs.BuildArgs, context: Context) -> AsyncGenerator[bytes, None]:
        (fd,) = await context.fds()
        async with aclosing(builder.build(args, fd)) as lines:
            async for line in lines:
                yield line

    async def prune(args: verbs.PruneArgs, _: Context) -> verbs.PruneReply:
        return await builder.prune(args)

    router.add(verbs.PRUNE, prune)
    router.add_stream(verbs.BUILD, build)
