"""Cancelling an operation at each of its awaits, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any


class _Cancelled:
    """Drives a coroutine and cancels its task when it waits for the *at*-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], at: int) -> None:
        self._coroutine = coroutine
        self._at = at
        self.reached = False

    def __await__(self) -> Generator[Any, Any, object]:
        waits = 0
        sent: BaseException | None = None
        while True:
            try:
                waited = self._coroutine.throw(sent) if sent else self._coroutine.send(None)
            except StopIteration as end:
                return end.value
            waits += 1
            if waits == self._at:
                self.reached = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            sent = None
            try:
                yield waited
            except BaseException as error:
                sent = error


async def cancelled_everywhere(make: Callable[[], Coroutine[Any, Any, object]]) -> AsyncIterator[bool]:
    """Run what *make* makes, cancelled at its first await, its second, and so on to its last.

    Yields after each run, true if it was cancelled and false if it came to its end all the same; the
    run that is not cancelled any more is the last, and is yielded, too.
    """
    at = 0
    while True:
        at += 1
        run = _Cancelled(make(), at)

        async def drive(run: _Cancelled = run) -> None:
            await run

        try:
            await asyncio.ensure_future(drive())
        except asyncio.CancelledError:
            yield True
        else:
            yield False
        if not run.reached:
            return
