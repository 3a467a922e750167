"""A stream whose client cannot be sent to: what it was at work with is cleared up before it is over."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.engine.images import verbs as image_verbs
from services.engine.rpc import Context, Router
from services.protocol.messages import Request, encode
from services.protocol.paths import ExecRoot
from services.protocol.verbs import images as verbs


class _Images:
    """Loads and imports for ever."""

    def __init__(self) -> None:
        self.at_work = 0

    async def load(self, fd: int, *_: Any, **__: Any) -> AsyncIterator[bytes]:
        self.at_work += 1
        try:
            while True:
                yield b""
        finally:
            await asyncio.sleep(0)
            self.at_work -= 1

    import_ = load


@pytest.mark.parametrize("args", [verbs.LoadArgs(), verbs.ImportArgs()], ids=["load", "import"])
def test_it_is_closed_at_once(tmp_path: Path, args: Any) -> None:
    images, sent = _Images(), []

    async def send(item: bytes) -> None:
        sent.append(images.at_work)
        raise asyncio.CancelledError

    async def fds() -> list[int]:
        return [os.open(os.devnull, os.O_RDONLY)]

    async def body() -> None:
        router = Router(ExecRoot(tmp_path), lambda _: fds())
        image_verbs.register(router, images)  # type: ignore[arg-type]
        verb = verbs.LOAD if isinstance(args, verbs.LoadArgs) else verbs.IMPORT
        context = Context("r", 1, fds)
        with contextlib.suppress(asyncio.CancelledError):
            await router._verbs[verb.name](Request("r", verb.name, encode(args)), context, send)
        assert (sent, images.at_work) == ([1], 0)
        await router.close()

    asyncio.run(body())
