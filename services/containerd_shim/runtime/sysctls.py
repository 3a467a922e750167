"""Which kernel parameters a container may set: those of its own namespaces (runc's ``validate``)."""

from __future__ import annotations

from collections.abc import Iterable

from services.containerd_shim.runtime import failures
from services.containerd_shim.runtime import syscall as sc

_IPC = {
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
}


def check(keys: Iterable[str], namespaces: int) -> None:
    """*namespaces* are the CLONE_NEW* flags of those that are not the runtime's own.

    Raises SystemError_ with runc's texts.
    """
    for given in keys:
        reason = _refused(_dotted(given), namespaces)
        if reason:
            raise failures.invalid(f'sysctl "{_dotted(given)}" {reason}')


def _refused(key: str, namespaces: int) -> str:
    """Why *key* may not be set; empty when it may."""
    if key in _IPC or key.startswith("fs.mqueue."):
        return "" if namespaces & sc.CLONE_NEWIPC else "is not allowed in the hosts ipc namespace"
    if key.startswith("net."):
        return "" if namespaces & sc.CLONE_NEWNET else "not allowed in host network namespace"
    if namespaces & sc.CLONE_NEWUTS:
        if key == "kernel.domainname":
            return ""
        if key == "kernel.hostname":
            return 'is not allowed as it conflicts with the OCI "hostname" field'
    return "is not in a separate kernel namespace"


def _dotted(key: str) -> str:
    """``net/ipv4/conf/eth0.100/forwarding`` in the form whose separator is the dot."""
    first = next((char for char in key if char in "./"), ".")
    return key if first == "." else key.translate(str.maketrans("./", "/."))
