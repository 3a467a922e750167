"""All execs of the daemon: by id, in memory, and as a file beside the shim that runs them.

An exec lives no longer than its container's task, so its file lives in the shim's directory and
goes with it. The file is what lets a restarted engine answer ``exec inspect`` (the exit code of a
``docker exec`` whose engine was killed meanwhile); after a power loss there is nothing to answer.
In memory an exec that has ended stays when its task goes, as in dockerd: its client asks for the exit
code a moment after its end, and what it did may have been to end the container.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict, deque
from pathlib import Path

import msgspec

from services.engine.containers.model import Entry, Exec
from services.protocol.paths import ExecRoot

#: Seconds that an exec can be inspected after its end; dockerd's is 5 minutes, too.
KEEP = 300.0

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Exec).decode


class ExecTable:
    """``runtime.execs`` of a container are those that have not ended; this has the ended ones, too."""

    def __init__(self, exec_root: ExecRoot) -> None:
        self._exec_root = exec_root
        self._by_id: dict[str, Exec] = {}
        self._of_container: defaultdict[str, set[str]] = defaultdict(set)
        self._ended: deque[tuple[float, str]] = deque()
        #: Ids of those that their shims are being told of: that a shim does not know one says nothing yet.
        self.preparing: set[str] = set()

    def find(self, exec_id: str) -> Exec | None:
        return self._by_id.get(exec_id)

    def add(self, entry: Entry, exec_: Exec) -> None:
        self._sweep()
        self.save(exec_)
        self._insert(exec_)
        entry.runtime.execs[exec_.id] = exec_

    def save(self, exec_: Exec) -> None:
        """Write the record; what was there before is replaced whole or not at all."""
        path = self._path(exec_)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(_encode(exec_))
        temporary.replace(path)

    def ended(self, entry: Entry, exec_: Exec, exit_code: int) -> None:
        """Record the end of *exec_*; it stays to be inspected for a while."""
        exec_.running = False
        exec_.exit_code = exit_code
        with contextlib.suppress(OSError):  # the shim's directory may have gone with the container
            self.save(exec_)
        entry.runtime.execs.pop(exec_.id, None)
        self._ended.append((time.monotonic(), exec_.id))

    def load(self, entry: Entry) -> None:
        """Take up the execs of a running container after a restart of the engine."""
        try:
            names = os.listdir(self._directory(entry.id))
        except FileNotFoundError:
            return
        for name in names:
            path = self._directory(entry.id) / name
            if path.suffix != ".json":
                path.unlink(missing_ok=True)
                continue
            exec_ = _decode(path.read_bytes())
            self._insert(exec_)
            if exec_.exit_code is None:
                entry.runtime.execs[exec_.id] = exec_
            else:
                self._ended.append((time.monotonic(), exec_.id))

    def task_gone(self, entry: Entry) -> None:
        """The task is gone, and with it its execs that have not ended (or begun)."""
        for exec_id in list(entry.runtime.execs):
            self._drop(exec_id)
        entry.runtime.execs.clear()

    def forget(self, entry: Entry) -> None:
        """The container is gone, and all its execs with it."""
        for exec_id in list(self._of_container.get(entry.id, ())):
            self._drop(exec_id)
        entry.runtime.execs.clear()

    def _insert(self, exec_: Exec) -> None:
        self._by_id[exec_.id] = exec_
        self._of_container[exec_.container_id].add(exec_.id)

    def _drop(self, exec_id: str) -> None:
        if (exec_ := self._by_id.pop(exec_id, None)) is None:
            return
        self._path(exec_).unlink(missing_ok=True)
        siblings = self._of_container[exec_.container_id]
        siblings.discard(exec_id)
        if not siblings:
            del self._of_container[exec_.container_id]

    def _sweep(self) -> None:
        limit = time.monotonic() - KEEP
        while self._ended and self._ended[0][0] < limit:
            self._drop(self._ended.popleft()[1])

    def _directory(self, container_id: str) -> Path:
        return self._exec_root.shim_dir(container_id) / "execs"

    def _path(self, exec_: Exec) -> Path:
        return self._directory(exec_.container_id) / f"{exec_.id}.json"
