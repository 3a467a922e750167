"""An API server that is killed takes back none of its requests: its streams end all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from services.engine.rpc import Context, Router
from services.protocol.messages import Item, Request, decode_from_engine, encode
from services.protocol.paths import ExecRoot
from services.protocol.verbs import containers as verbs
from tests.unit.lifecycle.fakes import eventually, run


async def _no_fds(_: str) -> list[int]:
    return []


def test_a_stream_ends_with_who_asked_for_it(tmp_path: Path) -> None:
    ended: list[str] = []

    async def items(args: verbs.StatsArgs, _: Context) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.005)
        finally:
            ended.append(args.ref)

    async def test() -> None:
        router = Router(ExecRoot(tmp_path), _no_fds)
        router.add_stream(verbs.STATS, items)
        router.bind()
        serving = asyncio.create_task(router.serve())
        with zmq.asyncio.Context() as context:
            lost, stays = [await _ask(context, tmp_path, name) for name in ("lost", "stays")]
            lost.close(0)
            await eventually(lambda: ended == ["lost"])
            for _ in range(100):  # what came before, and what comes after
                assert isinstance(decode_from_engine(await stays.recv()), Item)
            stays.close(0)
        await eventually(lambda: ended == ["lost", "stays"])
        serving.cancel()
        await router.close()

    run(test())


async def _ask(context: zmq.asyncio.Context, root: Path, name: str) -> zmq.asyncio.Socket:
    """A client that has got its first item."""
    socket = context.socket(zmq.DEALER)
    socket.connect(ExecRoot(root).engine_address)
    arguments = msgspec.msgpack.encode(verbs.StatsArgs(name))
    await socket.send(encode(Request(name, verbs.STATS.name, arguments)))
    assert isinstance(decode_from_engine(await socket.recv()), Item)
    return socket
