"""The hub of events by itself: what is missed before the engine is there, or heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import zmq

from services.apiserver.client import Engine
from services.apiserver.events import EventHub, Follower
from services.engine.events import Events
from services.engine.rpc import Context, Router
from services.protocol.messages import EVENT_TOPIC, GREETING
from services.protocol.paths import ExecRoot
from services.protocol.verbs import system as verbs


async def _no_descriptors(_: str) -> list[int]:
    return []


@contextlib.asynccontextmanager
async def _hub(root: Path) -> AsyncIterator[EventHub]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    engine = Engine(ExecRoot(root), context)
    hub = EventHub(ExecRoot(root), context, engine)
    engine.open()
    hub.open()
    try:
        yield hub
    finally:
        hub.close()
        engine.close()
        context.term()


class _Source:
    """The engine's side, which listens from ``serve`` on."""

    def __init__(self, root: Path) -> None:
        self._router = Router(ExecRoot(root), _no_descriptors)
        self._events = Events(self._router.publish)
        self._router.add(verbs.EVENTS, self._history)
        self._serving: asyncio.Task[None] | None = None

    async def _history(self, args: verbs.HistoryArgs, _: Context) -> verbs.History:
        return self._events.history(args.since, args.until)

    def publish(self, action: str) -> None:
        self._events.publish("container", action, "c", {})

    def serve(self) -> None:
        self._router.bind()
        self._serving = asyncio.create_task(self._router.serve())

    async def __aenter__(self) -> _Source:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._serving is not None:
            self._serving.cancel()
        await self._router.close()


async def _next(follower: Follower) -> str:
    item = await asyncio.wait_for(follower.next(), 60)
    assert item is not None
    return item.event.action


def test_a_follower_that_waits_for_the_engine_gets_its_first_event(tmp_path: Path) -> None:
    async def body() -> None:
        async with _Source(tmp_path) as source, _hub(tmp_path) as hub:
            with hub.follow() as follower:
                source.publish("first")
                source.serve()
                assert await _next(follower) == "first"
                source.publish("second")
                assert await _next(follower) == "second"

    asyncio.run(body())


def test_what_was_before_a_follower_is_not_for_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with _Source(tmp_path) as source, _hub(tmp_path) as hub:
            with hub.follow() as older:
                source.publish("first")
                with hub.follow() as follower:
                    source.serve()
                    assert await _next(older) == "first"  # the history has been delivered
                    source.publish("second")
                    assert await _next(follower) == "second"

    asyncio.run(body())


def test_a_subscriber_is_greeted_once_it_hears_everything(tmp_path: Path) -> None:
    """Whoever asks for the history earlier misses what is published before its subscription has arrived."""

    async def body() -> None:
        async with _Source(tmp_path) as source, contextlib.AsyncExitStack() as stack:
            source.serve()
            context: zmq.Context[zmq.Socket[bytes]] = stack.enter_context(zmq.Context())
            for number in range(2):  # beside the one before, which has the same subscription
                subscriber = stack.enter_context(context.socket(zmq.SUB))
                subscriber.setsockopt(zmq.RCVTIMEO, 60_000)
                subscriber.setsockopt(zmq.LINGER, 0)
                subscriber.subscribe(EVENT_TOPIC)
                subscriber.connect(ExecRoot(tmp_path).events_address)
                assert await asyncio.to_thread(subscriber.recv_multipart) == [EVENT_TOPIC, GREETING]
                source.publish(f"event-{number}")
                topic, event = await asyncio.to_thread(subscriber.recv_multipart)
                assert topic == EVENT_TOPIC and f"event-{number}".encode() in event

    asyncio.run(body())
