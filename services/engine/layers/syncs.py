"""syncfs(2), shared: who waits at the same time waits for the same call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from reexec.archive import syscalls
from services.engine.scopes import Background
from services.protocol.errors import SystemError_


class Syncs:
    """Of the file systems that *directories* are on."""

    def __init__(self, directories: Sequence[Path], background: Background) -> None:
        self._directories = directories
        self._background = background
        self._current: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def sync(self) -> None:
        """Everything written before is on the disk. Raises :class:`SystemError_`."""
        if self._next is None:
            # A call that has begun says nothing about what was written meanwhile.
            work = self._run(self._current)
            self._next = self._background.spawn(work, name="sync", awaited=True)
        await asyncio.shield(self._next)

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        self._current, self._next = self._next, None
        try:
            await asyncio.to_thread(self._call)
        except OSError as error:
            raise SystemError_(f"layers cannot be written to the disk: {error.strerror}") from error

    def _call(self) -> None:
        done: set[int] = set()
        for directory in self._directories:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if (device := os.fstat(fd).st_dev) not in done:
                    done.add(device)
                    syscalls.syncfs(fd)
            finally:
                os.close(fd)
