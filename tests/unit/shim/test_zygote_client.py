"""Questions to a zygote that dies, and for a while cannot be started again."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import msgspec
import pytest

from services.containerd_shim import zygote_client
from services.containerd_shim.forking import Forked, Reclaim
from services.containerd_shim.packets import Packets
from services.containerd_shim.zygote_client import ZygoteClient
from services.protocol import fdpass
from services.protocol.paths import ExecRoot


class Client(ZygoteClient):
    """Its zygotes are sockets; the second start fails, and meanwhile something is asked."""

    def __init__(self, exec_root: ExecRoot) -> None:
        super().__init__(exec_root)
        self.zygotes: list[socket.socket] = []
        self.failed = False
        self.asked_later: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self.zygotes and not self.failed:
            self.failed = True
            self.asked_later = asyncio.create_task(self.reclaim(Path("/later")))
            raise OSError(11, "no process id")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        self.zygotes.append(theirs)
        self._packets = Packets(ours, self._received, self._lost)


async def _question(zygote: socket.socket) -> Reclaim:
    data = await asyncio.get_running_loop().sock_recv(zygote, fdpass.MAX_MESSAGE)
    return msgspec.msgpack.decode(data, type=Reclaim)


def test_what_is_asked_while_there_is_no_zygote_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zygote_client, "RESTART_DELAY", 0)

    async def test() -> None:
        client = Client(ExecRoot(tmp_path))
        client.start()
        before = asyncio.create_task(client.reclaim(Path("/before")))
        assert (await _question(client.zygotes[0])).directory == "/before"
        client.zygotes[0].close()
        while len(client.zygotes) == 1:
            await asyncio.sleep(0)
        asked = [await _question(client.zygotes[1]) for _ in range(2)]
        assert {question.directory for question in asked} == {"/before", "/later"}
        for question in asked:
            fdpass.send(client.zygotes[1], Forked(question.seq, 1))
        assert client.asked_later is not None
        await asyncio.gather(before, client.asked_later)
        client.close()
        client.zygotes[1].close()

    asyncio.run(asyncio.wait_for(test(), 50))
