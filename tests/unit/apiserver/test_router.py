"""The engine's side of the requests by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import zmq
import zmq.asyncio

from services.engine.rpc import Context, Router
from services.protocol.errors import ErrorKind
from services.protocol.messages import Cancel, Reply, Request, decode_from_engine, encode
from services.protocol.paths import ExecRoot
from services.protocol.verbs import Nothing, Ref
from services.protocol.verbs import containers as verbs


async def _no_descriptors(_: str) -> list[int]:
    return []


async def _pause(_: Ref, __: Context) -> Nothing:
    return Nothing()


@asynccontextmanager
async def _router(
    root: ExecRoot, start: Callable[[Ref, Context], Awaitable[Nothing]]
) -> AsyncIterator[tuple[Router, zmq.asyncio.Context]]:
    """One with two verbs, bound and not serving yet, and a context for its clients."""
    router = Router(root, _no_descriptors)
    router.add(verbs.START, start)
    router.add(verbs.PAUSE, _pause)
    router.bind()
    context = zmq.asyncio.Context()
    try:
        yield router, context
    finally:
        await router.close()
        context.destroy(0)


def test_a_request_that_is_cancelled_before_it_began_is_answered(tmp_path: Path) -> None:
    """Request and cancellation are read in one go by an engine that has stood still."""
    began: list[str] = []

    async def start(args: Ref, _: Context) -> Nothing:
        began.append(args.ref)
        await asyncio.Event().wait()
        return Nothing()

    async def body() -> bytes:
        root = ExecRoot(tmp_path)
        async with _router(root, start) as (router, context):
            client = context.socket(zmq.DEALER)
            client.connect(root.engine_address)
            await client.send(encode(Request("r", verbs.START.name, encode(Ref("c")), 1)))
            await client.send(encode(Cancel("r")))
            serving = asyncio.create_task(router.serve())
            try:
                return await asyncio.wait_for(client.recv(), 60)
            finally:
                serving.cancel()

    reply = decode_from_engine(asyncio.run(body()))
    assert isinstance(reply, Reply) and reply.failure is not None
    assert (reply.failure.kind, began) == (ErrorKind.CANCELLED, ["c"])


def test_a_request_that_comes_again_by_another_connection_is_answered_there(tmp_path: Path) -> None:
    began: list[str] = []
    go = asyncio.Event()

    async def start(args: Ref, _: Context) -> Nothing:
        began.append(args.ref)
        await go.wait()
        return Nothing()

    async def body() -> bytes:
        root = ExecRoot(tmp_path)
        async with _router(root, start) as (router, context):
            serving = asyncio.create_task(router.serve())
            try:
                for attempt in (1, 2):
                    client = context.socket(zmq.DEALER)
                    client.connect(root.engine_address)
                    await client.send(encode(Request("r", verbs.START.name, encode(Ref("c")), attempt)))
                    # Answered after the one before has been taken.
                    await client.send(encode(Request(f"p{attempt}", verbs.PAUSE.name, encode(Ref("c")), 1)))
                    await asyncio.wait_for(client.recv(), 60)
                    if attempt == 1:
                        client.close(0)
                go.set()
                return await asyncio.wait_for(client.recv(), 60)
            finally:
                serving.cancel()

    reply = decode_from_engine(asyncio.run(body()))
    assert isinstance(reply, Reply) and (reply.id, reply.failure, began) == ("r", None, ["c"])
