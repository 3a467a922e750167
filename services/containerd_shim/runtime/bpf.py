"""Classic BPF in front of a libseccomp filter: system calls newer than the installed libseccomp.

libseccomp resolves names by the table it was built with. A profile that allows ``mseal`` would then
refuse it, and C libraries that probe for new calls expect ENOSYS, not EPERM (runc's ``patchbpf`` has
the same cure). System calls from 424 on have one number on every architecture, so a short prelude is
enough::

    A = architecture; another than expected: skip to the filter
    A = number
    number == n ...:  return the rule's action
    number > highest known:  return ERRNO(ENOSYS)
    (the filter)
"""

from __future__ import annotations

import errno
import os
import struct

#: Numbers of arch-independent calls that libseccomp 2.5 lacks (asm-generic/unistd.h).
UNIFIED = {
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "futex_waitv": 449,
    "set_mempolicy_home_node": 450,
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
}
HIGHEST_KNOWN = max(UNIFIED.values())
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}
#: Bit of x32 numbers, which share the architecture value of x86_64 (asm/unistd.h).
_X32 = 0x40000000
_NUMBER_OFFSET, _ARCH_OFFSET = 0, 4
_LOAD, _JEQ, _JGT, _JGE, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x06
_ERRNO = 0x00050000


def _instruction(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def prelude(actions: dict[int, int], *, refuse_unknown: bool) -> bytes:
    """Instructions to put before a filter; *actions* maps numbers to seccomp return values.

    ``refuse_unknown`` answers ENOSYS to calls newer than any this project knows of.
    """
    architecture = _AUDIT_ARCH.get(os.uname().machine)
    if architecture is None:
        return b""
    body = b"".join(
        _instruction(_JEQ, number, 0, 1) + _instruction(_RETURN, action)
        for number, action in sorted(actions.items())
    )
    if refuse_unknown:
        body += _instruction(_JGE, _X32, 2, 0)
        body += _instruction(_JGT, HIGHEST_KNOWN, 0, 1)
        body += _instruction(_RETURN, _ERRNO | errno.ENOSYS)
    if not body:
        return b""
    count = len(body) // 8
    head = _instruction(_LOAD, _ARCH_OFFSET)
    head += _instruction(_JEQ, architecture, 0, count + 1)
    head += _instruction(_LOAD, _NUMBER_OFFSET)
    return head + body
