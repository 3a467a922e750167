"""Progress of a transfer as documents of Docker's ``jsonmessage``, to any number of clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from services.protocol import jsonlines

#: Lines that a client may be behind before it misses states of progress (never ends of anything).
_BEHIND = 1000


def short(digest: str) -> str:
    """As layers are called in progress: the first 12 digits."""
    return digest.partition(":")[2][:12]


class Progress:
    """What happens is told to everyone who listens; who comes later is told how things stand."""

    def __init__(self) -> None:
        #: The last line of each id, and all lines without one, in order of first appearance.
        self._state: dict[str, bytes] = {}
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._ended = False

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def say(self, text: str, identity: str = "") -> None:
        """``Pulling from library/busybox``."""
        members = {"status": text, "id": identity} if identity else {"status": text}
        self._tell(f"={identity}" if identity else f"#{len(self._state)}", members)

    def aux(self, value: object) -> None:
        self._tell(f"#{len(self._state)}", {"progressDetail": {}, "aux": value})

    def state(self, identity: str, text: str) -> None:
        """``Pull complete``."""
        self._tell(identity, {"status": text, "progressDetail": {}, "id": identity})

    def count(self, identity: str, text: str, current: int, total: int) -> None:
        """``Downloading``, in bytes."""
        detail = {"current": current, "total": total} if total > 0 else {"current": current}
        line = {"status": text, "progressDetail": detail, "id": identity}
        self._tell(identity, line, droppable=True)

    def _tell(self, key: str, members: Mapping[str, object], *, droppable: bool = False) -> None:
        line = jsonlines.line(**members)
        self._state[key] = line
        for listener in self._listeners:
            if not droppable or listener.qsize() < _BEHIND:
                listener.put_nowait(line)

    def end(self) -> None:
        self._ended = True
        for listener in self._listeners:
            listener.put_nowait(None)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """To the end of the transfer. Listening begins with the first step."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        for line in self._state.values():
            queue.put_nowait(line)
        if self._ended:
            queue.put_nowait(None)
        self._listeners.add(queue)
        try:
            while (item := await queue.get()) is not None:
                yield item
        finally:
            self._listeners.discard(queue)


class Steps:
    """The steps of one blob, told to every transfer that waits for it; who comes later hears the last."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._listeners: list[Progress] = []
        self._last: Callable[[Progress], None] | None = None

    def join(self, progress: Progress) -> None:
        self._listeners.append(progress)
        if self._last is not None:
            self._last(progress)

    def leave(self, progress: Progress) -> None:
        self._listeners.remove(progress)

    def state(self, text: str) -> None:
        self._tell(lambda progress: progress.state(self._identity, text))

    def count(self, text: str, current: int, total: int) -> None:
        self._tell(lambda progress: progress.count(self._identity, text, current, total))

    def _tell(self, step: Callable[[Progress], None]) -> None:
        self._last = step
        for progress in set(self._listeners):
            step(progress)


class Transfer:
    """A transfer in the background and its progress; it ends with its last client."""

    def __init__(self, progress: Progress, task: asyncio.Task[None]) -> None:
        self.progress = progress
        #: The last client has left: it is on its way to its end, and cannot be joined any more.
        self.ending = False
        self._task = task
        self._clients = 0

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Lines, then the transfer's failure. Who stops following cancels it, if nobody else does."""
        self._clients += 1
        try:
            async with aclosing(self.progress.lines()) as lines:
                async for line in lines:
                    yield line
            await asyncio.shield(self._task)
        finally:
            self._clients -= 1
            if not self._clients and not self._task.done():
                self.ending = True
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
