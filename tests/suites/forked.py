"""Helpers for tests without a zygote: fork this process and run the registered function in the child."""

from __future__ import annotations

import asyncio
import contextlib
import encodings.idna  # noqa: F401 - a child could not import what a thread of ours was importing
import os
import signal
from collections.abc import Mapping, Sequence

import msgspec

from reexec.call import Call
from reexec.run import run
from services.engine.scopes import shielded
from services.protocol.errors import Unavailable, from_failure
from services.protocol.fdpass import Handover
from services.protocol.helpers import HelperExit, HelperRequest


def _child(argv: list[str], fds: dict[str, int], answer: int) -> None:
    # As from the zygote: an inherited end of a pipe would keep its reader waiting for ever.
    keep = {0, 1, 2, answer, *fds.values()}
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)
    ended = run(Call(argv, fds))
    with os.fdopen(answer, "wb") as pipe:
        pipe.write(msgspec.msgpack.encode(ended))
    os._exit(0)


def fork(argv: Sequence[str], fds: Mapping[str, int]) -> tuple[int, int]:
    """(pid, descriptor of the answer) of a forked helper."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            _child(list(argv), dict(fds), writing)
        finally:
            os._exit(70)
    os.close(writing)
    return pid, reading


class ForkedHelpers:
    """Implements ``services.engine.helpers.Helpers``; ``pids`` are those of running helpers."""

    def __init__(self) -> None:
        self._running: dict[int, str] = {}
        self.calls: list[str] = []

    @property
    def pids(self) -> set[int]:
        return set(self._running)

    def running(self) -> list[str]:
        """Names of running helpers."""
        return list(self._running.values())

    async def run(
        self, argv: Sequence[str], fds: Mapping[str, int] | None = None, *, private_mounts: bool = False
    ) -> bytes:
        self.calls.append(argv[0])
        pid, answer = fork(argv, fds or {})
        self._running[pid] = argv[0]
        try:
            data = await asyncio.to_thread(self._read, answer)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            # To its end, whoever is cancelled: a pid that has been reaped is no helper's any more.
            await shielded(self._reap(pid))
        if not data:
            raise Unavailable(f"{argv[0]} was killed")
        ended = msgspec.msgpack.decode(data, type=HelperExit)
        if ended.failure is not None:
            raise from_failure(ended.failure)
        return ended.result

    async def _reap(self, pid: int) -> None:
        await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        del self._running[pid]  # before it is reaped: who finds it here may signal it
        os.waitpid(pid, 0)

    @staticmethod
    def _read(fd: int) -> bytes:
        with os.fdopen(fd, "rb") as pipe:
            return pipe.read()

    def handover(self, argv: Sequence[str]) -> Handover:
        return Handover("", msgspec.msgpack.encode(HelperRequest(list(argv), [])))
