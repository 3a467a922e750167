"""The task service's side of the zygote: execute it, ask it, execute it again when it dies."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.containerd_shim.forking import Forked, ForkShim, Reclaim
from services.containerd_shim.packets import Packets
from services.containerd_shim.runtime import selfexe
from services.protocol import fdpass
from services.protocol.errors import Unavailable, from_failure
from services.protocol.paths import ExecRoot

log = logging.getLogger(__name__)

#: Seconds that a fork may take, with the zygote's start before it.
FORK_TIMEOUT = 60.0
#: Seconds until a zygote that could not be executed is tried again.
RESTART_DELAY = 1.0
_decode = msgspec.msgpack.Decoder(Forked).decode


class ZygoteClient:
    """The listening socket of helper requests is made once and lives here: requests that come while
    a new zygote starts wait in its backlog."""

    def __init__(self, exec_root: ExecRoot) -> None:
        self._path = exec_root.zygote
        self._listener = fdpass.listen(self._path, backlog=1024)
        self._scratch = exec_root.root / "zygote-scratch"
        self._process: subprocess.Popen[bytes] | None = None
        self._packets: Packets | None = None
        self._pending: dict[int, asyncio.Future[Forked]] = {}
        self._seq = 0
        self._closing = False

    def start(self) -> None:
        """Execute the zygote. It is ready when it answers; requests may be sent before."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        interpreter = selfexe.read_only_interpreter()
        try:
            passed = (theirs.fileno(), self._listener.fileno())
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "services.containerd_shim.zygote",
                    f"--service-fd={passed[0]}",
                    f"--listen-fd={passed[1]}",
                    f"--scratch={self._scratch}",
                ],
                executable=f"/proc/self/fd/{interpreter}",
                pass_fds=(*passed, interpreter),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(interpreter)
        self._packets = Packets(ours, self._received, self._lost)

    def close(self) -> None:
        """End the zygote; shims and helpers go on."""
        self._closing = True
        if self._packets is not None:
            self._packets.close()
        if self._process is not None:
            self._process.wait()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    async def fork_shim(self, directory: Path, request: bytes, listener: socket.socket) -> int:
        """Fork the shim that serves *listener*; returns its pid."""
        return await self._ask(lambda seq: ForkShim(seq, str(directory), request), [listener.fileno()])

    async def reclaim(self, directory: Path) -> None:
        """End what the dead shim of *directory* left behind."""
        await self._ask(lambda seq: Reclaim(seq, str(directory)), [])

    async def _ask(self, message: Callable[[int], msgspec.Struct], fds: list[int]) -> int:
        """One question; asked again if the zygote dies over it."""
        for _attempt in range(3):
            seq = self._seq = self._seq + 1
            future: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
            self._pending[seq] = future
            try:
                if self._packets is not None:
                    self._packets.send(message(seq), fds)
                answer = await asyncio.wait_for(future, FORK_TIMEOUT)
            except _ZygoteDied:
                continue
            except TimeoutError as error:
                raise Unavailable("the zygote does not answer") from error
            finally:
                self._pending.pop(seq, None)
            if answer.failure is not None:
                raise from_failure(answer.failure)
            return answer.pid
        raise Unavailable("the zygote dies again and again")

    def _received(self, data: bytes) -> None:
        answer = _decode(data)
        future = self._pending.get(answer.seq)
        if future is not None and not future.done():
            future.set_result(answer)

    def _lost(self) -> None:
        """The zygote has died: its shims and helpers live on, a new one takes its place."""
        if self._closing:
            return
        if self._process is not None:
            self._process.kill()
            log.error("the zygote ended with status %s", self._process.wait())
        self._start_again()

    def _start_again(self) -> None:
        """Now or later; then all is asked again, also what was asked while there was no zygote."""
        if self._closing:
            return
        try:
            self.start()
        except OSError as error:  # no memory, no process id: it may be better later
            log.error("the zygote could not be started: %s", error)
            asyncio.get_running_loop().call_later(RESTART_DELAY, self._start_again)
            return
        for future in self._pending.values():
            if not future.done():
                future.set_exception(_ZygoteDied())


class _ZygoteDied(Exception):
    pass
