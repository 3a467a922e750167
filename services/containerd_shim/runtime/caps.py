"""Capability names and the five sets of a process (capabilities(7))."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.containerd_shim.runtime import syscall
from services.protocol import oci
from services.protocol.errors import InvalidParameter

#: In the kernel's order: the index is the capability's number (linux/capability.h).
_TEXT = """
CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID
CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW
CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT
CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD
CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG
CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE
"""
NAMES = _TEXT.split()
_NUMBERS = {name: number for number, name in enumerate(NAMES)}


def _last_capability() -> int:
    try:
        return int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    except OSError:
        return len(NAMES) - 1


#: The highest capability the running kernel knows.
LAST = _last_capability()


@dataclass(frozen=True)
class CapabilitySets:
    """Bit masks. Capabilities that the kernel does not know are left out, as runc does."""

    bounding: int
    effective: int
    inheritable: int
    permitted: int
    ambient: int


def mask(names: Iterable[str]) -> int:
    """The bit mask of *names*; raises InvalidParameter for a name that no kernel knows."""
    bits = 0
    for name in names:
        number = _NUMBERS.get(name)
        if number is None:
            raise InvalidParameter(f"unknown capability {name!r}")
        if number <= LAST:
            bits |= 1 << number
    return bits


def sets_of(capabilities: oci.Capabilities | None) -> CapabilitySets:
    """Without a document: what this process itself has."""
    if capabilities is None:
        held = permitted()
        return CapabilitySets(full_mask(), held, 0, held, 0)
    return CapabilitySets(
        mask(capabilities.bounding),
        mask(capabilities.effective),
        mask(capabilities.inheritable),
        mask(capabilities.permitted),
        mask(capabilities.ambient),
    )


def full_mask() -> int:
    """Everything in this process's bounding set (the command line and privileged containers)."""
    bits = 0
    for number in range(LAST + 1):
        if syscall.prctl(syscall.PR_CAPBSET_READ, number):
            bits |= 1 << number
    return bits


def drop_bounding(sets: CapabilitySets) -> None:
    """Needs CAP_SETPCAP, so it comes before the user is changed."""
    for number in range(LAST + 1):
        if not sets.bounding >> number & 1:
            syscall.prctl(syscall.PR_CAPBSET_DROP, number)


def apply(sets: CapabilitySets, effective: int) -> None:
    """The final sets, *effective* in the place of theirs.

    Ambient capabilities must be permitted and inheritable, else the kernel refuses them.
    """
    syscall.capset(effective, sets.permitted, sets.inheritable)
    syscall.prctl(syscall.PR_CAP_AMBIENT, syscall.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(LAST + 1):
        if sets.ambient >> number & 1:
            syscall.prctl(syscall.PR_CAP_AMBIENT, syscall.PR_CAP_AMBIENT_RAISE, number)


def permitted() -> int:
    """This process's permitted set."""
    return syscall.capget()[1]
