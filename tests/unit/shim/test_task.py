"""The container's life in its shim, without a container."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.containerd_shim import state
from services.containerd_shim.loop import Loop
from services.containerd_shim.shim.process import Process
from services.containerd_shim.shim.task import Task
from services.containerd_shim.stdio.pump import Streams
from services.protocol import task_pb2 as pb


class World:
    def __init__(self, root: Path, *, running: bool = True) -> None:
        self.directory = root / "c"
        self.directory.mkdir()
        self.deleted = False
        self.task = Task(Loop(), pb.StartShimRequest(id="c"), str(self.directory), None, self._delete)
        self.answers: list[pb.DeleteResponse] = []
        self.events: list[pb.Envelope] = []
        self.task.events.subscribe(self, 0, self.events.append)
        if running:
            self.task.init.running()

    def _delete(self) -> None:
        self.deleted = True

    def exits(self, code: int) -> Streams:
        """Init has ended, and somebody else holds its output; returns what is to be told of its end."""
        reader, self.writer = os.pipe()
        self.task.init.streams.start({reader: 1}, None)
        self.task.init.exited(code, self.task._init_drained)
        return self.task.init.streams

    def drained(self) -> None:
        os.close(self.writer)
        for output in list(self.task.init.streams._outputs):
            output.read_rest()


def test_a_deletion_waits_for_the_output_of_a_process_that_has_ended(tmp_path: Path) -> None:
    """It is no failure: whoever asked would take the shim for gone, which is yet to go."""
    world = World(tmp_path)
    world.exits(3)
    world.task.delete(pb.DeleteRequest(id="c", kill=True), world.answers.append)
    assert not world.answers and not world.deleted
    world.drained()
    assert [answer.exit_status for answer in world.answers] == [3]
    assert world.deleted and not world.directory.exists()


def test_an_exit_that_cannot_be_recorded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    waited: list[Process] = []
    world.task.init.waiters.append(waited.append)

    def full(_directory: str, _record: state.ShimRecord) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(state, "save", full)
    world.exits(5)
    world.drained()
    assert [event.exit.exit_status for event in world.events if event.HasField("exit")] == [5]
    assert waited == [world.task.init]
