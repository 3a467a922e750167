"""Capability names as users write them, and the set of a container (moby ``daemon/pkg/oci/caps``)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from services.engine.containers.values import go_quote
from services.protocol.errors import InvalidParameter

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT "
    "SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE "
    "AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ "
    "PERFMON BPF CHECKPOINT_RESTORE"
)
_DEFAULT_NAMES = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE "
    "SYS_CHROOT KILL AUDIT_WRITE"
)
#: capabilities(7), in the kernel's order: the index is the number.
KNOWN = tuple("CAP_" + name for name in _NAMES.split())
#: What a container has when nothing is said.
DEFAULTS = tuple("CAP_" + name for name in _DEFAULT_NAMES.split())
ALL = "ALL"


@functools.cache
def supported() -> tuple[str, ...]:
    """The capabilities of the running kernel."""
    try:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    except (OSError, ValueError):
        last = len(KNOWN) - 1
    return KNOWN[: last + 1]


@functools.cache
def available() -> tuple[str, ...]:
    """The capabilities this engine has itself: more than that it cannot give to anybody."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            mask = int(value, 16)
            return tuple(known for number, known in enumerate(supported()) if mask >> number & 1)
    return supported()


def normalize(names: Sequence[str]) -> list[str]:
    """Upper case with ``CAP_``; ``ALL`` stays.

    Raises ``InvalidParameter`` for one that nobody knows, and for one that this engine could not give.
    """
    result = []
    for name in names:
        upper = name.upper()
        if upper != ALL:
            upper = upper if upper.startswith("CAP_") else "CAP_" + upper
            if upper not in KNOWN:
                raise InvalidParameter(f"unknown capability: {go_quote(upper)}")
            if upper not in available():
                raise InvalidParameter(
                    "capability not supported by your kernel or not available in the current environment: "
                    f'"{upper}"'
                )
        result.append(upper)
    return result


def resolve(add: Sequence[str], drop: Sequence[str], *, privileged: bool) -> list[str]:
    """The capabilities of a container: the defaults, without *drop*, with *add*; all if privileged."""
    if privileged:
        return list(available())
    added, dropped = normalize(add), normalize(drop)
    if ALL in added:
        return [name for name in available() if name not in dropped]
    kept = [] if ALL in dropped else [name for name in DEFAULTS if name not in dropped]
    return list(dict.fromkeys([*kept, *added]))
