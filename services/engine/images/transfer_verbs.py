"""Verbs that ask registries -> :class:`Transfers` and :class:`RegistryClient`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from services.engine.images.references import parse_pulled
from services.engine.images.transfers import Transfers
from services.engine.registry import RegistryClient, credentials, platforms
from services.engine.rpc import Context, Router
from services.protocol.verbs import images as verbs


class _Handlers:
    def __init__(self, transfers: Transfers, registry: RegistryClient) -> None:
        self._transfers = transfers
        self._registry = registry

    async def pull(self, args: verbs.PullArgs, _: Context) -> AsyncIterator[bytes]:
        reference = parse_pulled(args.image, args.tag)
        platform = platforms.parse(args.platform) if args.platform else None
        items = self._transfers.puller.pull(reference, platform, credentials.decode(args.auth))
        async with aclosing(items) as lines:  # type: ignore[type-var]
            async for line in lines:
                yield line


def register(router: Router, transfers: Transfers, registry: RegistryClient) -> None:
    handlers = _Handlers(transfers, registry)
    router.add_stream(verbs.PULL, handlers.pull)
