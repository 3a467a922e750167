"""Cgroup version 1, also hybrid: one directory per controller hierarchy.

A process joins by writing "0" to ``tasks`` itself. That moves one thread under the kernel's mutex
alone, where ``cgroup.procs`` waits some milliseconds for an RCU grace period on a quiet machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from services.containerd_shim.runtime.cgroups import base, v1_resources, v1_stats
from services.protocol import oci
from services.protocol.errors import SystemError_
from services.protocol.metrics import Metrics

_FREEZE_SECONDS = 10.0


class V1Manager:
    """``hierarchies`` maps controllers to mount points; co-mounted controllers share a directory."""

    version = 1

    def __init__(self, hierarchies: dict[str, str], path: str) -> None:
        self._mounts = hierarchies
        self._path = path
        self.paths = {name: f"{mount}/{path}" for name, mount in hierarchies.items()}

    def _directories(self) -> list[str]:
        return list(dict.fromkeys(self.paths.values()))

    def create(self) -> None:
        for directory in self._directories():
            base.make(directory)
        if "cpuset" in self.paths:
            self._inherit_cpuset()

    def _inherit_cpuset(self) -> None:
        """A cpuset is born empty and takes no process until it has cpus and memory nodes."""
        directory = self._mounts["cpuset"]
        parent = [base.read(directory, name) for name in ("cpuset.cpus", "cpuset.mems")]
        for part in self._path.split("/"):
            directory = f"{directory}/{part}"
            for index, name in enumerate(("cpuset.cpus", "cpuset.mems")):
                own = base.read(directory, name)
                if not own:
                    base.write(directory, name, parent[index])
                parent[index] = own or parent[index]

    def set(self, resources: oci.Resources) -> None:
        v1_resources.apply(self.paths, resources)

    def join_files(self) -> list[str]:
        return [f"{directory}/tasks" for directory in self._directories()]

    def mounts(self) -> list[tuple[str, str]]:
        by_directory: dict[str, list[str]] = {}
        for name, directory in self.paths.items():
            by_directory.setdefault(directory, []).append(name)
        return [(",".join(names), directory) for directory, names in by_directory.items()]

    def _one(self) -> str:
        """A hierarchy to list processes by; every process is in all of them."""
        for name in ("freezer", "pids", "devices", "memory"):
            if name in self.paths:
                return self.paths[name]
        return self._directories()[0]

    def pids(self) -> list[int]:
        return base.tree_pids(self._one())

    def freeze(self, frozen: bool) -> None:
        directory = self.paths.get("freezer")
        if directory is None:
            raise SystemError_("freezer cgroup is not mounted")
        state = "FROZEN" if frozen else "THAWED"
        deadline = time.monotonic() + _FREEZE_SECONDS
        delay = 0.0005
        while True:
            # A process forking while the state is FREEZING can hold it up; writing again goes on.
            base.write(directory, "freezer.state", state)
            if base.read(directory, "freezer.state") == state:
                return
            if time.monotonic() > deadline:
                base.write(directory, "freezer.state", "THAWED")
                raise SystemError_("unable to freeze")
            time.sleep(delay)
            delay = min(delay * 2, 0.05)

    def frozen(self) -> bool:
        directory = self.paths.get("freezer")
        return directory is not None and base.read(directory, "freezer.state") in ("FROZEN", "FREEZING")

    def kill(self) -> None:
        """Freeze, signal, thaw: frozen processes cannot fork away, and die as they thaw."""
        if not self.pids():
            return
        with contextlib.suppress(SystemError_, OSError):
            self.freeze(True)
        try:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        finally:
            with contextlib.suppress(SystemError_, OSError):
                self.freeze(False)

    def stats(self) -> Metrics:
        return v1_stats.collect(self.paths)

    def oom_event_fd(self) -> int | None:
        """An eventfd registered in cgroup.event_control (cgroup-v1/memory.rst, "OOM Control")."""
        directory = self.paths.get("memory")
        if directory is None:
            return None
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                base.write(directory, "cgroup.event_control", f"{event} {control}")
            finally:
                os.close(control)
        except OSError:
            os.close(event)
            return None
        return event

    def oom_kills(self) -> int:
        directory = self.paths.get("memory")
        return base.read_table(directory, "memory.oom_control").get("oom_kill", 0) if directory else 0

    def destroy(self) -> None:
        directories = self._directories()
        if os.path.isdir(self._one()):
            self.kill()
        base.remove_trees(directories)
