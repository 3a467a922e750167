"""Terminals of the runtime's command line."""

from __future__ import annotations

import os
import select
import subprocess

import pytest

from services.containerd_shim.runtime.command import terminal
from services.containerd_shim.runtime.container import Started


def test_last_words_are_shown(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a program that wrote and ended between the looks at its terminal and at itself."""
    look = select.select
    looks: list[list[int]] = []

    def too_early(sources: list[int], *rest: object) -> object:
        looks.append(sources)
        return ([pidfd], [], []) if len(looks) == 1 else look(sources, [], [])

    monkeypatch.setattr(select, "select", too_early)
    master, slave = os.openpty()
    with subprocess.Popen(["true"]) as child:
        pidfd = os.pidfd_open(child.pid)
        look([pidfd], [], [])
        os.write(slave, b"last words")
        os.close(slave)
        terminal._relay(Started(child.pid, pidfd, master), master)
    os.close(master)
    os.close(pidfd)
    assert len(looks) > 1
    assert capfd.readouterr().out == "last words"
