"""The child's side: how a forked copy of the shim turns into a container's init or exec.

Nothing here returns to the caller: a child ends by becoming the program, or by sending what went
wrong and exiting.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from services.containerd_shim.runtime import console, failures, hooks, namespaces, network, rootfs, sync, user
from services.containerd_shim.runtime import process as processes
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.failures import StartError
from services.protocol import oci
from services.protocol import task_pb2 as pb


@dataclass
class InitPlan:
    """Everything computed before the fork."""

    process: processes.ProcessPlan
    root: rootfs.RootPlan
    namespaces: namespaces.NamespacePlan
    cgroup_files: list[str]
    hostname: str
    domainname: str
    sysctls: dict[str, str]
    hooks: oci.Hooks | None
    state: oci.State
    oom_score_adj: int | None
    #: Listening socket on which Begin arrives instead of the sync socket (the command line's start).
    gate: socket.socket | None = None
    sysctls_later: dict[str, str] = field(default_factory=dict)

    @property
    def user_namespace(self) -> bool:
        return bool(self.namespaces.kinds & sc.CLONE_NEWUSER)


@dataclass
class ExecPlan:
    """``setns_flags`` are those namespaces of *init_fd* (a pidfd) that differ from the host's."""

    process: processes.ProcessPlan
    init_fd: int
    setns_flags: int
    cgroup_files: list[str]
    oom_score_adj: int | None


def child(
    sock: socket.socket, keep: list[int], run: Callable[[socket.socket], None], *, is_exec: bool
) -> NoReturn:
    """Run *run* in a just forked process; failures go through *sock*."""
    gc.disable()
    try:
        processes.detach_from_parent([sock.fileno(), *keep])
        run(sock)
    except sync.PeerGone:
        pass
    except BaseException as error:  # noqa: BLE001 - everything must reach the parent
        failure = failures.of_init(error, is_exec=is_exec).to_failure()
        with contextlib.suppress(OSError):
            sync.send(sock, sync.Failed(failure))
    os._exit(1)


def join_cgroups(files: list[str]) -> None:
    for path in files:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        finally:
            os.close(fd)


def _set_oom_score(value: int | None) -> None:
    if value is None:
        return
    path = "/proc/self/oom_score_adj"
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if int(os.read(fd, 16)) != value:
            os.write(fd, str(value).encode())
    except OSError as error:
        # runc sets it in the process that has yet to tell who it is, and knows no better than this.
        raise failures.invalid(f"{failures.UNABLE}can't get final child's PID from pipe: EOF") from error
    finally:
        os.close(fd)


def run_init(plan: InitPlan, sock: socket.socket) -> None:
    """Prepare, wait for Begin, become the program."""
    _set_oom_score(plan.oom_score_adj)
    join_cgroups(plan.cgroup_files)
    sc.unshare(sc.CLONE_NEWNS)
    staged = rootfs.stage_host(plan.root)
    _enter_namespaces(plan, sock)
    if plan.hooks is not None and (plan.hooks.prestart or plan.hooks.create_runtime):
        sync.send(sock, sync.RunHooks())
        sync.receive(sock, sync.Proceed)
    root = rootfs.open_root(plan.root)
    mounting = rootfs.build(plan.root, staged, root)
    slave = _make_console(plan, sock, root)
    _set_names(plan)
    proc_sys = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    proc_self = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _write_sysctls(plan, proc_sys)
    plan.state.pid = os.getpid()
    if plan.hooks is not None:
        hooks.run("createContainer", plan.hooks.create_container, plan.state)
    rootfs.restrict(plan.root, mounting)
    rootfs.enter(plan.root, root)
    if plan.namespaces.new & sc.CLONE_NEWNET:
        network.loopback_up()
    identity = _identity(plan.process)
    processes.rehearse_program(plan.process, identity)
    sync.send(sock, sync.Ready())
    _begin(plan, sock, proc_sys)
    processes.execute(plan.process, identity, slave, proc_self)


def _enter_namespaces(plan: InitPlan, sock: socket.socket) -> None:
    """Join and make every namespace but mount and pid, which are there; the user namespace first.

    A new user namespace owns the others only when they are made after it, pid and mount included, so
    the process forks once more and a second mount namespace is made.
    """
    for flag, fd in plan.namespaces.joins:
        if flag not in (sc.CLONE_NEWUSER, sc.CLONE_NEWPID):
            sc.setns(fd, flag)
    rest = plan.namespaces.new & ~(sc.CLONE_NEWNS | sc.CLONE_NEWPID | sc.CLONE_NEWUSER)
    if not plan.user_namespace:
        if rest:
            sc.unshare(rest)
        return
    for flag, fd in plan.namespaces.joins:
        if flag == sc.CLONE_NEWUSER:
            sc.setns(fd, flag)
    if plan.namespaces.new & sc.CLONE_NEWUSER:
        sc.prctl(sc.PR_SET_DUMPABLE, 1)  # the parent writes /proc/<pid>/uid_map
        sc.unshare(sc.CLONE_NEWUSER)
        sync.send(sock, sync.MapIds())
        sync.receive(sock, sync.Proceed)
        sc.prctl(sc.PR_SET_DUMPABLE, 0)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    if plan.namespaces.new & sc.CLONE_NEWPID:
        sc.unshare(sc.CLONE_NEWPID)
        pid = os.fork()
        if pid:
            sync.send(sock, sync.Forked(pid))
            os._exit(0)
        os.setsid()
    sc.unshare(rest | sc.CLONE_NEWNS)


def _make_console(plan: InitPlan, sock: socket.socket, root: int) -> int | None:
    if not plan.process.process.terminal:
        return None
    master, slave = console.open_pair(root, plan.process.size)
    console.bind_console(root, slave)
    sync.send(sock, sync.Console(), master)
    os.close(master)
    return slave


def _set_names(plan: InitPlan) -> None:
    if plan.hostname:
        socket.sethostname(plan.hostname)
    if plan.domainname:
        sc.setdomainname(plan.domainname)


def _write_sysctls(plan: InitPlan, proc_sys: int) -> None:
    """Those of interfaces that the network setup has yet to bring wait for it."""
    for key, value in plan.sysctls.items():
        try:
            network.write_sysctl(proc_sys, key, value)
        except StartError:
            if not network.is_interface_sysctl(key):
                raise
            plan.sysctls_later[key] = value


def _identity(plan: processes.ProcessPlan) -> user.Identity:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return processes.resolve_user(plan, root)
    finally:
        os.close(root)


def _begin(plan: InitPlan, sock: socket.socket, proc_sys: int) -> None:
    """Wait for the order to start, then do what had to wait for it."""
    if plan.gate is not None:
        starter, _address = plan.gate.accept()
        os.dup2(starter.detach(), sock.fileno(), inheritable=False)
        plan.gate.close()
    begin = sync.receive(sock, sync.Begin)
    if begin.network:
        network.configure(pb.NetworkSetup.FromString(begin.network), proc_sys)
    for key, value in plan.sysctls_later.items():
        network.write_sysctl(proc_sys, key, value)
    os.close(proc_sys)
    if plan.hooks is not None:
        hooks.run("startContainer", plan.hooks.start_container, plan.state)


def run_exec(plan: ExecPlan, sock: socket.socket) -> None:
    """Join the container and become the program."""
    _set_oom_score(plan.oom_score_adj)
    join_cgroups(plan.cgroup_files)
    proc_self = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sc.setns(plan.init_fd, plan.setns_flags)
    os.close(plan.init_fd)
    if plan.setns_flags & sc.CLONE_NEWUSER:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        sc.prctl(sc.PR_SET_DUMPABLE, 0)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    slave = None
    if plan.process.process.terminal:
        master, slave = console.open_pair(root, plan.process.size)
        sync.send(sock, sync.Console(), master)
        os.close(master)
    identity = processes.resolve_user(plan.process, root)
    os.close(root)
    processes.execute(plan.process, identity, slave, proc_self)
