"""A container as its parent sees it: the runtime's library, called by the shim and the command line.

::

    c = Container(id, bundle, spec)
    started = c.create(stdio, rootfs=[...], user=ref)   # everything made; the program waits
    c.start(network)                                    # configures the network, executes it
    c.exec(process, stdio, user=None)                   # one more program
    c.destroy()

The caller is single-threaded, reaps the children (their pids are in :class:`Started`) and should be
a child subreaper: with a user namespace the init is forked by an intermediate process.
"""

from __future__ import annotations

import contextlib
import os
import signal as signals
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from services.containerd_shim.runtime import (
    cgroups,
    failures,
    hooks,
    idmap,
    init,
    layers,
    planning,
    spawn,
    sync,
)
from services.containerd_shim.runtime.cgroups.base import RefusedError, WriteError
from services.containerd_shim.runtime.process import Stdio
from services.containerd_shim.runtime.user import UserRef
from services.protocol import metrics, oci
from services.protocol.errors import Conflict, NotFound, WharfError

if TYPE_CHECKING:
    from services.protocol import task_pb2 as pb

__all__ = ["Container", "ContainerState", "Started", "Stdio"]


#: A container can make the steps up to execve hang (a file system that does not answer).
_EXEC_SECONDS = 60.0


@dataclass
class Started:
    """A process. ``pidfd`` and ``console`` (the terminal's master) belong to the caller."""

    pid: int
    pidfd: int
    console: int | None


class ContainerState(msgspec.Struct):
    """What a container is found again by. ``start_time`` is that of the pid, in clock ticks."""

    id: str
    bundle: str
    pid: int = 0
    start_time: int = 0


class Container:
    def __init__(self, container_id: str, bundle: Path, spec: oci.Spec) -> None:
        """Nothing is made yet. Raises InvalidParameter for a cgroupsPath that is none."""
        self.id = container_id
        self.bundle = bundle
        self.spec = spec
        self.pid = 0
        self.start_time = 0
        self._linux = spec.linux or oci.Linux()
        self._cgroup = cgroups.manager(self._linux.cgroups_path, container_id)
        self._sock: socket.socket | None = None

    @classmethod
    def load(cls, state: ContainerState, spec: oci.Spec) -> Container:
        """A container that another process has created; to start it takes its :meth:`take_sync`."""
        container = cls(state.id, Path(state.bundle), spec)
        container.pid, container.start_time = state.pid, state.start_time
        return container

    def save(self) -> ContainerState:
        return ContainerState(self.id, str(self.bundle), self.pid, self.start_time)

    # -- init ---------------------------------------------------------------------------------

    def create(
        self,
        stdio: Stdio | None,
        *,
        rootfs: Sequence[pb.Mount] = (),
        user: UserRef | None = None,
        console_size: tuple[int, int] | None = None,
        gate: socket.socket | None = None,
        preserve_fds: int = 0,
    ) -> Started:
        """Make cgroups, namespaces and root; the program is found and its user known, and it waits.

        Raises WharfError with ``exit_code`` (None for a user that does not exist) and leaves nothing
        behind. *console_size* is (height, width). With a *gate* the program waits for a connection
        to that listening socket, and outlives this process.
        """
        self._check_fresh()
        try:
            plan = planning.init_plan(self, self._cgroup, stdio, rootfs, user, console_size)
        except Exception as error:
            raise failures.of_parent(error, is_exec=False) from error
        plan.gate = gate
        plan.process.preserve_fds = preserve_fds
        try:
            self._cgroup.create()
            self._limit(self._linux.resources or oci.Resources())
            root = plan.root
            with layers.served(root.layers) as root.layers, layers.served([*root.wholes.values()]) as ready:
                root.wholes = dict(zip(root.wholes, ready, strict=True))
                return self._fork_init(plan)
        except BaseException as error:
            self._undo()
            raise failures.of_parent(error, is_exec=False) from error
        finally:
            plan.namespaces.close()

    def _limit(self, resources: oci.Resources) -> None:
        try:
            self._cgroup.set(resources)
        except (RefusedError, WriteError) as error:
            if isinstance(error, WriteError) and "/cpu.rt_" in str(error.filename):
                # runc gives a cgroup its real-time share before it puts the process into it.
                raise failures.StartError(f"unable to apply cgroup configuration: {error.text}") from error
            raise failures.StartError(
                f"{failures.INIT}error setting cgroup config for procHooks process: {error.text}"
            ) from error

    def _check_fresh(self) -> None:
        if self.pid:
            raise Conflict(f"container with given ID already exists: {self.id}")

    def _fork_init(self, plan: init.InitPlan) -> Started:
        ours, theirs = sync.pair()
        console: int | None = None
        try:
            keep = planning.kept_descriptors(plan)
            pid = spawn.fork(
                theirs, keep, lambda sock: init.run_init(plan, sock), plan.namespaces, is_exec=False
            )
            self._became(pid)
            console = self._converse(ours, plan)
            if plan.gate is None:
                self._sock = ours
            else:
                ours.close()
            return Started(self.pid, os.pidfd_open(self.pid), console)
        except BaseException:
            if console is not None:
                os.close(console)
            ours.close()
            raise

    def _became(self, pid: int) -> None:
        self.pid, self.start_time = pid, spawn.start_time(pid)

    def _converse(self, sock: socket.socket, plan: init.InitPlan) -> int | None:
        """Answer the child until it is ready; the master of its terminal if it has one."""
        console: int | None = None
        while True:
            try:
                message, fd = sync.receive_any(sock)
            except sync.PeerGone:
                raise failures.StartError("the container's init process ended before it was ready") from None
            match message:
                case sync.MapIds():
                    idmap.write(self.pid, self._linux.uid_mappings, self._linux.gid_mappings)
                    sync.send(sock, sync.Proceed())
                case sync.Forked(pid=pid):
                    intermediate = self.pid
                    self._became(pid)
                    spawn.reap(intermediate)
                case sync.RunHooks():
                    self._run_runtime_hooks()
                    sync.send(sock, sync.Proceed())
                case sync.Console():
                    console = fd
                case sync.Ready():
                    return console
                case _:
                    raise failures.StartError(f"runtime sync: unexpected {type(message).__name__}")

    def _run_runtime_hooks(self) -> None:
        assert self.spec.hooks is not None
        state = self.oci_state("creating")
        hooks.run("prestart", self.spec.hooks.prestart, state)
        hooks.run("createRuntime", self.spec.hooks.create_runtime, state)

    def oci_state(self, status: str) -> oci.State:
        return planning.oci_state(self, status, self.pid)

    def start(self, network: pb.NetworkSetup | None) -> list[str]:
        """Execute the program; the texts of poststart hooks that failed.

        Raises WharfError with exit_code 126, 127 or 128 when it could not be executed; the container
        is then as dead as one that has exited, and :meth:`destroy` is the caller's.
        """
        if self._sock is None:
            raise Conflict("cannot start a container that has stopped" if self.pid else "not created")
        sock, self._sock = self._sock, None
        with sock:
            spawn.begin(sock, network.SerializeToString() if network is not None else b"")
        return self.run_poststart()

    def take_sync(self) -> socket.socket:
        """The connection to the waiting program, for another process to :func:`spawn.begin` it."""
        if self._sock is None:
            raise Conflict("no program is waiting")
        sock, self._sock = self._sock, None
        return sock

    def run_poststart(self) -> list[str]:
        if self.spec.hooks is None or not self.spec.hooks.poststart:
            return []
        return hooks.run_all(self.spec.hooks.poststart, self.oci_state("running"))

    # -- exec ---------------------------------------------------------------------------------

    def exec(
        self,
        process: oci.Process,
        stdio: Stdio | None,
        *,
        user: UserRef | None = None,
        console_size: tuple[int, int] | None = None,
        preserve_fds: int = 0,
        ignore_paused: bool = False,
    ) -> Started:
        """Execute one more program; returns when it runs. Refused while paused, unless ignored: then
        it runs once the container is resumed.

        Raises WharfError with ``exit_code``; nothing is left behind.
        """
        try:
            plan = planning.exec_plan(
                self, self._cgroup, process, stdio, user, console_size, ignore_paused=ignore_paused
            )
        except Exception as error:
            raise failures.of_parent(error, is_exec=True) from error
        plan.process.preserve_fds = preserve_fds
        ours, theirs = sync.pair()
        ours.settimeout(None if ignore_paused else _EXEC_SECONDS)
        pid, console = 0, None
        try:
            keep = [plan.init_fd, *planning.stdio_descriptors(plan.process)]
            namespaces = planning.pid_namespace_of(plan)
            pid = spawn.fork(theirs, keep, lambda sock: init.run_exec(plan, sock), namespaces, is_exec=True)
            console = spawn.await_exec(ours, expects_console=process.terminal)
            return Started(pid, os.pidfd_open(pid), console)
        except BaseException as error:
            if pid:
                spawn.kill_and_reap(pid)
            if console is not None:
                os.close(console)
            raise failures.of_parent(error, is_exec=True) from error
        finally:
            ours.close()
            os.close(plan.init_fd)

    # -- all of it ----------------------------------------------------------------------------

    def alive(self) -> bool:
        """The init process exists and is the one that was created (pids are used again)."""
        return bool(self.pid) and spawn.start_time(self.pid) == self.start_time != 0

    def kill(self, signal: int, all: bool = False) -> None:
        """Send *signal* to init, or to every process; raises NotFound when init is gone."""
        if all:
            self._kill_all(signal)
            return
        if not self.alive():
            raise NotFound("container not running")
        try:
            os.kill(self.pid, signal)
        except ProcessLookupError:
            raise NotFound("container not running") from None

    def _kill_all(self, signal: int) -> None:
        if signal == signals.SIGKILL:
            self._cgroup.kill()
            return
        for pid in self._cgroup.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal)

    def pids(self) -> list[int]:
        return self._cgroup.pids()

    def pause(self) -> None:
        self._cgroup.freeze(True)

    def resume(self) -> None:
        self._cgroup.freeze(False)

    def paused(self) -> bool:
        return self._cgroup.frozen()

    def update(self, resources: oci.Resources) -> None:
        """Change the limits that are given; others stay."""
        try:
            self._cgroup.set(resources)
        except (RefusedError, WriteError) as error:
            text = f"runc did not terminate successfully: exit status 1: {error.text}\n"
            raise failures.StartError(text) from error
        except OSError as error:
            raise failures.StartError(failures.os_text("failed to write", error)) from error

    def stats(self) -> bytes:
        """The cgroup's counters: msgpack of :class:`services.protocol.metrics.Metrics`."""
        return metrics.encode(self._cgroup.stats())

    def oom_event_fd(self) -> int | None:
        """Readable when memory has run out (read it, then look at :meth:`oom_kills`); the caller's."""
        return self._cgroup.oom_event_fd()

    def oom_kills(self) -> int:
        return self._cgroup.oom_kills()

    def destroy(self) -> list[str]:
        """Kill what is left, remove the cgroups, run poststop hooks; the texts of those that failed.

        Idempotent, also after a crash. Raises SystemError_ when a cgroup cannot be removed.
        """
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._cgroup.destroy()
        if self.spec.hooks is None or not self.spec.hooks.poststop:
            return []
        return hooks.run_all(self.spec.hooks.poststop, planning.oci_state(self, "stopped", 0))

    def free(self) -> None:
        """As :meth:`destroy`, of a container whose making was cut off: no hook knows of it."""
        self._cgroup.destroy()

    def _undo(self) -> None:
        """After a failed create: nothing of it may stay."""
        if self.pid:
            spawn.kill_and_reap(self.pid)
        self.pid = self.start_time = 0
        with contextlib.suppress(OSError, WharfError):
            self._cgroup.destroy()
