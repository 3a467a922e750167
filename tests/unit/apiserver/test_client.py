"""The client of the engine by itself: what cannot wait 30 seconds in a test of the whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from services.apiserver.client import Engine
from services.protocol.errors import DeadlineExceeded, Unavailable
from services.protocol.messages import Request, encode
from services.protocol.paths import ExecRoot
from services.protocol.verbs import Nothing, Ref
from services.protocol.verbs import containers as verbs
from services.protocol.verbs import images as image_verbs
from tests.unit.apiserver.fakes import FakeEngine


def with_engine(root: Path, work: Callable[[Engine], Awaitable[Any]], *, wait: float = 0.4) -> Any:
    async def run() -> Any:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        engine = Engine(ExecRoot(root), context, wait=wait)
        engine.open()
        try:
            return await work(engine)
        finally:
            engine.close()
            context.term()

    return asyncio.run(run())


def test_waiting_for_an_engine_is_bounded(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="engine is not available"):
        with_engine(tmp_path, lambda engine: engine.call(verbs.START, Ref("c")))
    assert 0.4 <= time.monotonic() - began < 30


class _Sockets(zmq.Context[zmq.Socket[bytes]]):
    """A context that knows what was made of it."""

    made: list[zmq.Socket[bytes]]

    def socket(self, *args: Any, **options: Any) -> zmq.Socket[bytes]:
        made = super().socket(*args, **options)
        self.__dict__.setdefault("made", []).append(made)
        return made


def test_an_earlier_socket_of_the_link_takes_nothing_over(tmp_path: Path) -> None:
    """libzmq connects again by itself, although the link has given that socket up: it may do so late."""
    fake = FakeEngine(tmp_path)
    fake.on(verbs.PAUSE, Nothing())
    fake.start()

    async def ask() -> None:
        context = _Sockets()
        engine = Engine(ExecRoot(tmp_path), context)
        engine.open()
        try:
            await engine.call(verbs.PAUSE, Ref("c"), timeout=60)
            earlier = context.socket(zmq.DEALER)
            if identity := context.made[0].getsockopt(zmq.ROUTING_ID):
                earlier.setsockopt(zmq.ROUTING_ID, identity)
            earlier.connect(ExecRoot(tmp_path).engine_address)
            earlier.send(encode(Request("r", verbs.PAUSE.name, encode(Ref("c")), 1)))
            await asyncio.to_thread(earlier.recv)
            earlier.close(0)
            await engine.call(verbs.PAUSE, Ref("c"), timeout=60)
        finally:
            engine.close()
            context.term()

    try:
        asyncio.run(ask())
    finally:
        fake.stop()


def test_an_engine_that_does_not_answer_meets_the_deadline(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path)
    cancelled: list[str] = []

    async def start(args: Ref, _: object) -> Nothing:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        cancelled.append(args.ref)
        return Nothing()

    fake.on(verbs.START, start)
    fake.on(verbs.PAUSE, Nothing())
    fake.start()

    async def ask(engine: Engine) -> None:
        await engine.call(verbs.PAUSE, Ref("c"))  # it is there: no time goes into waiting for it
        with pytest.raises(DeadlineExceeded):
            await engine.call(verbs.START, Ref("c"), timeout=0.3)
        for _ in range(3000):
            if cancelled:
                break
            await asyncio.sleep(0.02)

    try:
        with_engine(tmp_path, ask, wait=60)
    finally:
        fake.stop()
    assert cancelled == ["c"]


def test_a_cancelled_request_with_a_body_waits_until_the_engine_has_dropped_it(tmp_path: Path) -> None:
    """Whoever gave it up closes the other end of what the engine reads from."""
    fake = FakeEngine(tmp_path)
    dropped: list[bool] = []

    async def load(args: image_verbs.LoadArgs, context: Any) -> Any:
        (fd,) = await context.fds()
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)
            os.close(fd)
            dropped.append(True)

    fake.on_stream(image_verbs.LOAD, load)
    fake.start()

    async def ask(engine: Engine) -> None:
        reader, writer = os.pipe()
        async with contextlib.aclosing(
            engine.stream(image_verbs.LOAD, image_verbs.LoadArgs(), fds=[reader])
        ) as lines:
            async for _ in lines:
                break
        assert dropped
        os.close(writer)

    try:
        with_engine(tmp_path, ask, wait=60)
    finally:
        fake.stop()


def test_a_request_whose_body_was_passed_is_not_repeated(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path)
    began = asyncio.Event()

    async def load(args: image_verbs.LoadArgs, context: Any) -> Any:
        os.close((await context.fds())[0])
        yield b"begun"
        await asyncio.Event().wait()

    fake.on_stream(image_verbs.LOAD, load)
    fake.start()

    async def ask(engine: Engine) -> int:
        reader, writer = os.pipe()
        os.close(writer)
        items = 0
        with pytest.raises(Unavailable, match="while it was at work on the request"):
            async for _ in engine.stream(image_verbs.LOAD, image_verbs.LoadArgs(), fds=[reader]):
                items += 1
                began.set()
                await asyncio.to_thread(fake.stop)
                await asyncio.to_thread(fake.start)
        return items

    try:
        assert with_engine(tmp_path, ask, wait=60) == 1
    finally:
        fake.stop()
    assert [attempt for _, _, attempt in fake.calls] == [1]
