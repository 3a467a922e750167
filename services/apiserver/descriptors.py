"""Send a message with descriptors over a SEQPACKET socket and await the answer, without blocking."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from services.protocol import fdpass

T = TypeVar("T")

#: Seconds between attempts when the other side's queue of connections is full.
_RETRY = 0.005
#: Seconds until an owner that does not answer is given up.
TIMEOUT = 90.0


async def exchange(
    path: str | Path, message: msgspec.Struct, fds: Sequence[int], answer: type[T], timeout: float = TIMEOUT
) -> T:
    """Connect to *path*, send *message* with *fds*, return the one answer.

    The caller keeps its descriptors. Raises ``Unavailable`` (nobody there, or gone without an
    answer) and ``TimeoutError``.
    """
    async with asyncio.timeout(timeout):
        sock = await _connect(path)
        with sock:
            fdpass.send(sock, message, fds)
            await _readable(sock)
            result, received = fdpass.receive(sock, answer)
            assert not received
            return result


async def _connect(path: str | Path) -> socket.socket:
    while True:
        try:
            return fdpass.connect(path, blocking=False)
        except BlockingIOError:
            await asyncio.sleep(_RETRY)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _set, future)
    try:
        await future
    finally:
        loop.remove_reader(sock)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def writable(fd: int) -> None:
    """Return when *fd* (non-blocking) takes bytes again, or its reader is gone."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _set, future)
    try:
        await future
    finally:
        loop.remove_writer(fd)
