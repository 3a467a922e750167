"""The engine's way to forked helpers: ask the zygote, without ever blocking the event loop.

Whatever reads or writes a container's files runs in a helper: it may be confined to a root
directory, killed, and slow, and its bytes never cross the engine (rule 1).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from services.protocol import fdpass
from services.protocol.errors import Unavailable, from_failure
from services.protocol.fdpass import Handover
from services.protocol.helpers import HelperExit, HelperRequest
from services.protocol.paths import ExecRoot

T = TypeVar("T")

#: Seconds that a helper waits for a zygote that is being started, and between two looks.
READY_TIMEOUT, _RETRY = 90.0, 0.05


#: How many zygotes may go away over one request.
_ATTEMPTS = 10


class Helpers(Protocol):
    """Runs registered reexec helpers; ``argv[0]`` names one."""

    async def run(
        self, argv: Sequence[str], fds: Mapping[str, int] | None = None, *, private_mounts: bool = False
    ) -> bytes:
        """The helper's result. Raises its failure, or :class:`Unavailable` when it was killed.

        The caller keeps its descriptors. Cancelling kills the helper.
        """

    def handover(self, argv: Sequence[str]) -> Handover:
        """Where a client's connection is to be sent so that this helper streams to it."""


def document(name: str, arguments: msgspec.Struct) -> list[str]:
    """argv of a helper that takes one JSON document."""
    return [name, msgspec.json.encode(arguments).decode()]


class ZygoteHelpers:
    """Helpers forked by the zygote that listens below *exec_root*, with *env* added to its environment."""

    def __init__(self, exec_root: ExecRoot, env: Mapping[str, str] | None = None) -> None:
        self._path = exec_root.zygote
        self._env = dict(env or {})

    async def run(
        self, argv: Sequence[str], fds: Mapping[str, int] | None = None, *, private_mounts: bool = False
    ) -> bytes:
        named = dict(fds or {})
        request = HelperRequest(list(argv), list(named), self._env, private_mounts)
        data = await self._ask_again(request, list(named.values()))
        if not data:
            raise Unavailable(f"{argv[0]} was killed")
        ended = msgspec.msgpack.decode(data, type=HelperExit)
        if ended.failure is not None:
            raise from_failure(ended.failure)
        if ended.status:
            raise Unavailable(f"{argv[0]} ended with status {ended.status}")
        return ended.result

    async def _ask_again(self, request: HelperRequest, fds: list[int]) -> bytes:
        """A zygote that went away with the request unread (a helper that has begun ends with EOF) has not
        begun it: the next one is asked."""
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(ConnectionError):
                return await self._ask(request, fds)
        raise Unavailable("the process that starts helpers went away again and again")

    async def _ask(self, request: HelperRequest, fds: list[int]) -> bytes:
        with contextlib.closing(await self._connect()) as connection:
            connection.setblocking(False)
            fdpass.send(connection, request, fds)
            return await asyncio.get_running_loop().sock_recv(connection, fdpass.MAX_MESSAGE)

    async def _connect(self) -> socket.socket:
        """A zygote that is not there is being started again by supervisord: wait for it, bounded."""
        deadline = time.monotonic() + READY_TIMEOUT
        while True:
            try:
                # Connecting to a listening unix socket waits only when its backlog is full.
                return await asyncio.to_thread(fdpass.connect, self._path)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_RETRY)

    def handover(self, argv: Sequence[str]) -> Handover:
        return Handover(str(self._path), msgspec.msgpack.encode(HelperRequest(list(argv), [])))


async def ask(
    helpers: Helpers, argv: Sequence[str], kind: type[T], fds: Mapping[str, int] | None = None
) -> T:
    """Run a helper whose result is a *kind*."""
    return msgspec.msgpack.decode(await helpers.run(argv, fds), type=kind)


__all__ = ["Helpers", "ZygoteHelpers", "ask", "document"]
