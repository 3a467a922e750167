"""Scopes: background tasks that cannot be lost, and cleanup that outlives its request.

A bare ``asyncio.create_task`` loses its exception and its reference; a cleanup under a cancelled
request stops half-way. Both go through here (containerd ``internal/cleanup``; trio's shields).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Seconds that a cleanup may take before it is given up with an error in the log.
CLEANUP_TIMEOUT = 30.0


class Background:
    """Tasks owned by a manager: referenced, their errors logged, cancelled and awaited at close."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(
        self, coroutine: Coroutine[Any, Any, T], *, name: str, awaited: bool = False
    ) -> asyncio.Task[T]:
        """With *awaited* somebody takes the task's error, and it is not logged."""
        task = asyncio.create_task(coroutine, name=f"{self._name}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._forget if awaited else self._done)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved: nobody may be left to await it

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)

    async def drain(self) -> None:
        """Await the tasks there are, without cancelling them."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def shielded(awaitable: Awaitable[T], timeout: float = CLEANUP_TIMEOUT) -> T:
    """*awaitable* to its end (at most *timeout* seconds) although the caller is cancelled.

    The cancellation is delivered after it, so it is not swallowed.
    """
    task = asyncio.ensure_future(asyncio.wait_for(awaitable, timeout))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        if not task.cancelled() and (error_ := task.exception()) is not None:
            log.error("cleanup failed", exc_info=error_)
        raise cancelled
    return task.result()


async def settled(awaitable: Awaitable[T]) -> T:
    """*awaitable*'s result, waited for although the caller is cancelled meanwhile.

    The cancellation is not lost: it is delivered at the caller's next await. So what the caller does
    at once with the result is done, in any case, and what it has pushed on an :class:`Undo` is undone.
    """
    task = asyncio.current_task()
    assert task is not None
    future = asyncio.ensure_future(awaitable)
    cancelled = 0
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            cancelled += 1
    for _ in range(cancelled):  # the count of requests, which ``asyncio.timeout`` goes by, stays
        task.uncancel()
        task.cancel()
    return future.result()


def checkpoint() -> None:
    """Raises ``CancelledError`` if the caller has been cancelled: the last moment to turn back."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Undo:
    """Releases in reverse order, run when the block fails; forgotten when :meth:`keep` is called.

    ::

        async with Undo() as undo:
            await layers.create(id)
            undo.push(lambda: layers.remove(id))
            ...
            undo.keep()
    """

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], Awaitable[object]]] = []

    def push(self, callback: Callable[[], Awaitable[object]]) -> None:
        self._callbacks.append(callback)

    def keep(self) -> None:
        self._callbacks.clear()

    async def __aenter__(self) -> Undo:
        return self

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        if self._callbacks:
            await shielded(self._run(), CLEANUP_TIMEOUT * 2)

    async def _run(self) -> None:
        while self._callbacks:
            callback = self._callbacks.pop()
            try:
                await asyncio.wait_for(callback(), CLEANUP_TIMEOUT)
            except Exception:
                log.exception("releasing failed")


class KeyedLocks:
    """One lock per key, gone when nobody holds or awaits it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def busy(self, key: str) -> bool:
        """Somebody holds or awaits it."""
        return key in self._locks

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
