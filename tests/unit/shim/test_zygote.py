"""Requests to a zygote that cannot fork."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from services.containerd_shim import zygote
from services.containerd_shim.loop import Loop
from services.protocol import fdpass
from services.protocol.helpers import HelperRequest


def test_who_asks_for_a_helper_when_there_is_no_process_id_left_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fork(2) fails by EAGAIN then, as does the reading of a socket on which nothing has come."""

    def fork() -> int:
        loop.soon(loop.stop)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(zygote, "watch_children", lambda _loop, _told: None)
    monkeypatch.setattr(zygote.Zygote._fork, "__defaults__", (fork,))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    loop = Loop()
    with ours, theirs, fdpass.listen(tmp_path / "zygote.sock") as listener:
        zygote.Zygote(loop, theirs, listener)
        with fdpass.connect(tmp_path / "zygote.sock") as asking, open(os.devnull) as passed:
            asking.settimeout(60)
            fdpass.send(asking, HelperRequest(["docker-test"], ["stdin"]), [passed.fileno()])
            loop.run()
            assert fdpass.receive_raw(asking) == (b"", [])
    loop.abandon()
