"""Image verbs -> :class:`ImageManager`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.engine.images.loading import web_address
from services.engine.images.manager import ImageManager
from services.engine.images.references import parse_repository
from services.engine.rpc import Context, Router
from services.protocol.api import images as api
from services.protocol.errors import InvalidParameter
from services.protocol.fdpass import Handover
from services.protocol.jsonlines import line
from services.protocol.verbs import Filters, Nothing
from services.protocol.verbs import images as verbs


class _Handlers:
    def __init__(self, images: ImageManager) -> None:
        self._images = images

    async def list_(self, args: verbs.ListArgs, _: Context) -> list[api.ImageSummary]:
        return self._images.summaries(all=args.all, filters=args.filters, shared_size=args.shared_size)

    async def inspect(self, args: verbs.InspectArgs, _: Context) -> api.ImageInspect:
        return self._images.inspect(args.ref, args.platform)

    async def history(self, args: verbs.HistoryArgs, _: Context) -> list[api.HistoryItem]:
        return self._images.history(args.ref, args.platform)

    async def tag(self, args: verbs.TagArgs, _: Context) -> Nothing:
        await self._images.tag(args.ref, args.repo, args.tag)
        return Nothing()

    async def remove(self, args: verbs.RemoveArgs, _: Context) -> list[api.DeleteItem]:
        if len(args.platforms) > 1:
            raise InvalidParameter("multiple platforms are not supported")
        for platform in args.platforms:
            self._images.found(args.ref, platform)  # an image here has one: it is that one, or not found
        return await self._images.remove(args.ref, force=args.force, prune=not args.no_prune)

    async def prune(self, args: Filters, _: Context) -> api.ImagePruneReply:
        return await self._images.prune(args.filters)

    async def load(self, args: verbs.LoadArgs, context: Context) -> AsyncGenerator[bytes, None]:
        async with _Body(context) as fd:
            loaded = self._images.load(fd, quiet=args.quiet, platform=args.platform)
            async with aclosing(loaded) as items:
                async for item in items:
                    yield item

    async def import_(self, args: verbs.ImportArgs, context: Context) -> AsyncGenerator[bytes, None]:
        if args.repo:
            parse_repository(args.repo, args.tag)
        url = web_address(args.source) if args.source else ""
        async with self._images.fetched(url) if url else _Body(context) as fd:
            if url:
                yield line(status=f"Downloading from {url}")
            async with aclosing(self._images.import_(fd, args)) as items:
                async for item in items:
                    yield item

    async def save(self, args: verbs.SaveArgs, _: Context) -> Handover:
        return self._images.save(args.names, args.platform)


class _Body:
    """The request's descriptor, closed at the end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._fds: list[int] = []

    async def __aenter__(self) -> int:
        self._fds = await self._context.fds()
        if len(self._fds) != 1:
            self._close()
            raise InvalidParameter("the request has no body")
        return self._fds[0]

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())


def register(router: Router, images: ImageManager) -> None:
    handlers = _Handlers(images)
    router.add(verbs.LIST, handlers.list_)
    router.add(verbs.INSPECT, handlers.inspect)
    router.add(verbs.HISTORY, handlers.history)
    router.add(verbs.TAG, handlers.tag)
    router.add(verbs.REMOVE, handlers.remove)
    router.add(verbs.PRUNE, handlers.prune)
    router.add(verbs.SAVE, handlers.save)
    router.add_stream(verbs.LOAD, handlers.load)
    router.add_stream(verbs.IMPORT, handlers.import_)
