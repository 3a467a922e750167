"""The last steps of a process before execve(2), the same for init and exec.

The order is what makes it safe: everything that needs privileges comes before they are dropped, the
seccomp filter (without no_new_privs a privileged step) after everything that it could forbid, and
every descriptor is closed on exec (CVE-2024-21626).
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from services.containerd_shim.runtime import caps, console, execpath, lsm, rlimits, seccomp, user
from services.containerd_shim.runtime import syscall as sc
from services.containerd_shim.runtime.failures import PROGRAM_FAILED, StartError
from services.protocol import oci
from services.protocol.errors import InvalidParameter, Unimplemented

_ADMIN = caps.mask(["CAP_SYS_ADMIN"])
_PERSONAS = {"LINUX": 0x0, "LINUX32": 0x8}
_NULL = os.makedev(1, 3)
#: What a program whose execve failed exits with, after the text on its stderr (runc).
_EXEC_FAILED = 255
_SIGNALS = [int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}]


@dataclass
class Stdio:
    """Descriptors that become 0, 1 and 2 of the process; ignored when it has a terminal."""

    stdin: int
    stdout: int
    stderr: int


@dataclass
class ProcessPlan:
    """What the parent has computed and checked."""

    process: oci.Process
    stdio: Stdio | None
    reference: user.UserRef | None
    size: tuple[int, int] | None
    capabilities: caps.CapabilitySets
    filter: bytes | None
    filter_flags: int
    limits: list[tuple[int, int, int]]
    persona: int | None
    keyring: str
    preserve_fds: int = 0
    environment: dict[str, str] = field(default_factory=dict)


def plan(
    process: oci.Process,
    linux: oci.Linux,
    stdio: Stdio | None,
    reference: user.UserRef | None,
    size: tuple[int, int] | None,
    name: str,
) -> ProcessPlan:
    """Checks everything that can be known beforehand; raises InvalidParameter or Unimplemented."""
    if not process.args:
        raise InvalidParameter("args must not be empty")
    if not process.cwd.startswith("/"):
        raise StartError("Cwd must be an absolute path")
    if process.scheduler or process.io_priority:
        raise Unimplemented("process.scheduler and process.ioPriority are not implemented")
    lsm.check(process.apparmor_profile, process.selinux_label)
    if process.console_size is not None and not (size and any(size)):
        size = (process.console_size.height, process.console_size.width)
    filter_program, filter_flags = None, 0
    if linux.seccomp is not None:
        bounding = process.capabilities.bounding if process.capabilities else caps.NAMES
        filter_program = seccomp.program(linux.seccomp, frozenset(bounding))
        filter_flags = seccomp.flags(linux.seccomp)
    return ProcessPlan(
        process=process,
        stdio=stdio,
        reference=reference,
        size=size,
        capabilities=caps.sets_of(process.capabilities),
        filter=filter_program,
        filter_flags=filter_flags,
        limits=rlimits.parse(process.rlimits),
        persona=_persona(linux.personality),
        keyring=f"_ses.{name}",
        environment=dict(entry.split("=", 1) for entry in process.env if "=" in entry),
    )


def _persona(personality: dict[str, object] | None) -> int | None:
    if not personality:
        return None
    domain = str(personality.get("domain", ""))
    if domain not in _PERSONAS or personality.get("flags"):
        raise InvalidParameter(f"invalid personality {domain!r}")
    return _PERSONAS[domain]


def detach_from_parent(keep: Sequence[int]) -> None:
    """What a forked child does first: no inherited descriptor, handler or terminal survives.

    Being non-dumpable keeps processes of the container from reaching this one through ``/proc`` once
    it has joined their namespaces (CVE-2016-9962, CVE-2019-5736); execve resets it.
    """
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    # Everything needed is imported. What is not must fail: once the root is the container's, an import
    # would execute what the container has put where our modules are.
    sys.meta_path.clear()
    sys.path.clear()
    low = 3
    for fd in sorted({fd for fd in keep if fd > 2}):
        if fd > low:
            sc.close_range(low, fd - 1)
        low = fd + 1
    sc.close_range(low)
    for number in _SIGNALS:
        # Also those that are ignored: execve would keep it so.
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.setsid()


def resolve_user(plan: ProcessPlan, root: int) -> user.Identity:
    """Who the process is, by the files inside *root*."""
    if plan.reference is not None:
        return user.resolve(root, plan.reference)
    return user.of_spec(root, plan.process.user)


def find_program(plan: ProcessPlan) -> str:
    """As the calling identity; a name without a slash is looked up in the container's PATH."""
    return execpath.find(plan.process.args[0], plan.environment.get("PATH"))


def rehearse_program(plan: ProcessPlan, identity: user.Identity) -> None:
    """Find the program ahead of the start, as it will be found: from the working directory, by the user.

    Ids that cannot be had and a directory that cannot be entered are :func:`execute`'s to report.
    """
    groups = os.getgroups()
    try:
        with contextlib.suppress(OSError):
            os.setgroups(identity.groups)
            sc.setfsid(identity.uid, identity.gid)
            os.chdir(plan.process.cwd)
            find_program(plan)
    finally:
        sc.setfsid(0, 0)
        os.setgroups(groups)
        os.chdir("/")


def enter_cwd(path: str) -> None:
    """chdir, and proof that it is inside the container (CVE-2024-21626)."""
    try:
        os.chdir(path)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise StartError(
            f'chdir to cwd ("{path}") set in config.json failed: {reason}', exit_code=_cwd_code(error)
        ) from error
    try:
        inside = os.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:
        raise StartError(
            "current working directory is outside of container mount namespace root -- "
            "possible container breakout detected"
        )


def _cwd_code(error: OSError) -> int | None:
    return PROGRAM_FAILED if isinstance(error, PermissionError) else None


def execute(plan: ProcessPlan, identity: user.Identity, slave: int | None, proc_self: int) -> NoReturn:
    """Become the program. Raises StartError (and others) until the point of no return.

    When execve itself fails, the parent already sees success: as with runc, the text goes to the
    container's stderr and the exit code is 255.
    """
    process = plan.process
    if plan.persona is not None:
        sc.personality(plan.persona)
    with contextlib.suppress(OSError):
        sc.join_session_keyring(plan.keyring)
    os.umask(0o022 if process.user.umask is None else process.user.umask)
    _connect_stdio(plan.stdio, slave)
    _own_stdio(identity.uid)
    if process.no_new_privileges:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    lsm.apply(proc_self, process.apparmor_profile, process.selinux_label)
    os.close(proc_self)
    enter_cwd(process.cwd)
    if not plan.environment.get("HOME"):
        plan.environment.pop("HOME", None)  # an empty one is none
        plan.environment["HOME"] = identity.home
    rlimits.apply(plan.limits)
    _change_user(plan, identity)
    program = find_program(plan)
    _confine(plan, identity.uid)
    sc.close_range(3 + plan.preserve_fds, flags=sc.CLOSE_RANGE_CLOEXEC)
    try:
        os.execve(program, process.args, plan.environment)
    except OSError as error:
        text = f"exec {program}: {(error.strerror or '').lower()}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "surrogateescape"))
        os._exit(_EXEC_FAILED)


def _connect_stdio(stdio: Stdio | None, slave: int | None) -> None:
    if slave is not None:
        console.make_controlling(slave)
        sources = [slave, slave, slave]
    elif stdio is not None:
        sources = [stdio.stdin, stdio.stdout, stdio.stderr]
    else:
        return
    # Moved up first: a source may itself be one of 0, 1 and 2.
    copies = [os.dup(fd) for fd in sources]
    for target, copy in enumerate(copies):
        os.dup2(copy, target)
        os.close(copy)


def _own_stdio(uid: int) -> None:
    """Let the user reopen ``/dev/stdout``: pipes and terminals are given to them (runc)."""
    for fd in range(3):
        try:
            status = os.fstat(fd)
            if status.st_uid != uid and not (stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL):
                os.fchown(fd, uid, -1)
        except OSError:
            # Read-only file systems, descriptors of another user namespace: theirs to keep.
            continue


def _change_user(plan: ProcessPlan, identity: user.Identity) -> None:
    """Drop the bounding set, then become the user with the effective capabilities of the plan.

    The permitted set is kept until :func:`_confine`.
    """
    sets = plan.capabilities
    caps.drop_bounding(sets)
    sc.prctl(sc.PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise StartError(f"setting user {identity.uid}:{identity.gid}: {reason}") from error
    # Changing the ids makes a process dumpable again.
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    sc.prctl(sc.PR_SET_KEEPCAPS, 0)
    _set_capabilities(sets, _effective(sets, identity.uid), _ADMIN & caps.permitted())


def _set_capabilities(sets: caps.CapabilitySets, effective: int, extra: int) -> None:
    """*extra* is what stays permitted until the filter is loaded."""
    try:
        sc.capset(effective, sets.permitted | extra, sets.inheritable)
    except OSError as error:
        # A capability that this process does not have itself.
        raise StartError(f"unable to apply caps: {(error.strerror or '').lower()}") from error


def _effective(sets: caps.CapabilitySets, uid: int) -> int:
    """What execve(2) will leave: finding the program must not succeed by more than that."""
    return sets.effective if uid == 0 else sets.ambient


def _confine(plan: ProcessPlan, uid: int) -> None:
    """Seccomp and the final capabilities, in the order that no_new_privs asks for."""
    sets = plan.capabilities
    if plan.filter is not None and not plan.process.no_new_privileges:
        admin = _ADMIN & caps.permitted()
        _set_capabilities(sets, _effective(sets, uid) | admin, admin)
        _load_filter(plan)
    try:
        caps.apply(sets, _effective(sets, uid))
    except OSError as error:
        raise StartError(f"unable to apply caps: {(error.strerror or '').lower()}") from error
    if plan.filter is not None and plan.process.no_new_privileges:
        _load_filter(plan)


def _load_filter(plan: ProcessPlan) -> None:
    try:
        seccomp.load(plan.filter or b"", plan.filter_flags)
    except OSError as error:
        raise StartError(f"unable to init seccomp: {(error.strerror or '').lower()}") from error
