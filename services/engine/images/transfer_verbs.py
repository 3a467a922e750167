"""Verbs that ask registries -> :class:`Transfers` and :class:`RegistryClient`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from reexec.distribution.model import Credentials
from services.engine.images.manager import ImageManager
from services.engine.images.references import parse, parse_pulled, parse_repository
from services.engine.images.transfers import Transfers
from services.engine.registry import RegistryClient, credentials, inspection, platforms, search
from services.engine.rpc import Context, Router
from services.protocol.errors import Forbidden
from services.protocol.verbs import images as verbs


class _Handlers:
    def __init__(self, transfers: Transfers, registry: RegistryClient, images: ImageManager) -> None:
        self._transfers = transfers
        self._images = images
        self._registry = registry

    async def pull(self, args: verbs.PullArgs, _: Context) -> AsyncGenerator[bytes, None]:
        # The docker command's "--all-tags" once sent a name with a colon at its end.
        reference = parse_pulled(args.image.removesuffix(":"), args.tag)
        if reference.familiar_name == "scratch":
            raise Forbidden("'scratch' is a reserved name")
        platform = platforms.parse(args.platform) if args.platform else None
        items = self._transfers.puller.pull(reference, platform, credentials.decode(args.auth))
        async with aclosing(items) as lines:
            async for line in lines:
                yield line

    async def push(self, args: verbs.PushArgs, _: Context) -> AsyncGenerator[bytes, None]:
        reference = parse_repository(args.name, args.tag) if args.tag else parse(args.name)
        if args.platform:
            # An image here has one platform: it is that one, or there is nothing to push.
            self._images.found(str(reference), args.platform)
        items = self._transfers.pusher.push(reference, credentials.decode(args.auth))
        async with aclosing(items) as lines:
            async for line in lines:
                yield line

    async def auth(self, args: verbs.AuthArgs, _: Context) -> verbs.AuthReply:
        given = Credentials(args.username, args.password, args.identity_token)
        token = await self._registry.login(args.server_address, given)
        return verbs.AuthReply("Login Succeeded", token)

    async def distribution(self, args: verbs.DistributionArgs, _: Context) -> bytes:
        return await inspection.inspect(self._registry, args.name, credentials.decode(args.auth))

    async def search(self, args: verbs.SearchArgs, _: Context) -> bytes:
        given = credentials.decode(args.auth)
        return await search.search(self._registry, args.term, args.limit, args.filters, given)


def register(router: Router, transfers: Transfers, registry: RegistryClient, images: ImageManager) -> None:
    handlers = _Handlers(transfers, registry, images)
    router.add_stream(verbs.PULL, handlers.pull)
    router.add_stream(verbs.PUSH, handlers.push)
    router.add(verbs.AUTH, handlers.auth)
    router.add(verbs.DISTRIBUTION, handlers.distribution)
    router.add(verbs.SEARCH, handlers.search)
