"""Cgroup version 2: one directory in the unified hierarchy (Documentation/admin-guide/cgroup-v2)."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time

from services.containerd_shim.runtime import syscall
from services.containerd_shim.runtime.cgroups import base, devices_ebpf, v2_resources, v2_stats
from services.protocol import oci
from services.protocol.errors import SystemError_
from services.protocol.metrics import Metrics

_FREEZE_SECONDS = 10.0
_IN_MODIFY = 0x2


class V2Manager:
    version = 2

    def __init__(self, mount: str, path: str) -> None:
        self._mount = mount
        self._path = path
        self.directory = f"{mount}/{path}"

    def create(self) -> None:
        """Make the directories, delegating every controller that is there down to the container."""
        directory = self._mount
        for part in self._path.split("/"):
            self._enable(directory)
            directory = f"{directory}/{part}"
            base.make(directory)

    @staticmethod
    def _enable(directory: str) -> None:
        available = set(base.read(directory, "cgroup.controllers").split())
        missing = available - set(base.read(directory, "cgroup.subtree_control").split())
        for name in sorted(missing):
            # One by one: a controller that cannot be enabled here must not keep back the others.
            with contextlib.suppress(OSError):
                base.write(directory, "cgroup.subtree_control", f"+{name}")

    def set(self, resources: oci.Resources) -> None:
        v2_resources.apply(self.directory, resources)
        if resources.devices:
            devices_ebpf.attach(self.directory, resources.devices)

    def join_files(self) -> list[str]:
        return [f"{self.directory}/cgroup.procs"]

    def mounts(self) -> list[tuple[str, str]]:
        return [("", self.directory)]

    def pids(self) -> list[int]:
        return base.tree_pids(self.directory)

    def freeze(self, frozen: bool) -> None:
        base.write(self.directory, "cgroup.freeze", int(frozen))
        deadline = time.monotonic() + _FREEZE_SECONDS
        delay = 0.0005
        while base.read_table(self.directory, "cgroup.events").get("frozen", int(frozen)) != int(frozen):
            if time.monotonic() > deadline:
                base.write(self.directory, "cgroup.freeze", 0)
                raise SystemError_("unable to freeze")
            time.sleep(delay)
            delay = min(delay * 2, 0.05)

    def frozen(self) -> bool:
        return base.read(self.directory, "cgroup.freeze") == "1"

    def kill(self) -> None:
        try:
            base.write(self.directory, "cgroup.kill", 1)
        except FileNotFoundError:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def stats(self) -> Metrics:
        return v2_stats.collect(self.directory)

    def oom_event_fd(self) -> int | None:
        """An inotify descriptor on memory.events, which the kernel modifies with each event."""
        try:
            return syscall.inotify(f"{self.directory}/memory.events", _IN_MODIFY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EMFILE, errno.ENOSPC):
                return None
            raise

    def oom_kills(self) -> int:
        return base.read_table(self.directory, "memory.events").get("oom_kill", 0)

    def destroy(self) -> None:
        if os.path.isdir(self.directory):
            self.kill()
        base.remove_trees([self.directory])
