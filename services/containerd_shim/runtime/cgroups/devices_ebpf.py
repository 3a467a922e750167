"""Device access in cgroup v2: a BPF_PROG_TYPE_CGROUP_DEVICE program, attached to the directory.

The kernel calls it with ``struct bpf_cgroup_dev_ctx`` {u32 access_type, major, minor} in R1, where
access_type is (access << 16 | type); it answers 1 to allow. Rules are tried from the last to the
first, the first that matches decides, and nothing matching is refused - as v1's file does it::

    r2 = type, r3 = access, r4 = major, r5 = minor
    per rule:  if it does not match, jump behind;  r0 = allow; exit
    r0 = 0; exit
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence

from services.containerd_shim.runtime import syscall
from services.containerd_shim.runtime.cgroups.devices import rules_with_defaults
from services.protocol import oci

_BPF_PROG_LOAD, _BPF_PROG_ATTACH, _BPF_PROG_DETACH, _BPF_PROG_QUERY = 5, 8, 9, 16
_BPF_PROG_GET_FD_BY_ID = 13
_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS = 7

_LDX_W, _AND32_K, _RSH32_K, _MOV32_X = 0x61, 0x54, 0x74, 0xBC
_MOV64_K, _EXIT = 0xB7, 0x95
_JEQ_K, _JNE_K, _JNE_X = 0x15, 0x55, 0x5D


def _op(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, src << 4 | dst, offset, immediate)


_PROLOGUE = b"".join(
    (
        _op(_LDX_W, 2, 1, 0),
        _op(_AND32_K, 2, immediate=0xFFFF),
        _op(_LDX_W, 3, 1, 0),
        _op(_RSH32_K, 3, immediate=16),
        _op(_LDX_W, 4, 1, 4),
        _op(_LDX_W, 5, 1, 8),
    )
)


def program(rules: Sequence[oci.DeviceCgroup]) -> bytes:
    """eBPF instructions that decide as *rules* written one after the other to v1's files would."""
    blocks = [_PROLOGUE]
    for rule in reversed(rules):
        blocks.append(_block(rule))
        if rule.type == "a":
            # The verifier refuses instructions that cannot be reached.
            break
    else:
        blocks.append(_op(_MOV64_K, 0, immediate=0) + _op(_EXIT))
    return b"".join(blocks)


def _block(rule: oci.DeviceCgroup) -> bytes:
    verdict = _op(_MOV64_K, 0, immediate=int(rule.allow)) + _op(_EXIT)
    if rule.type == "a":
        return verdict
    # (instructions before the jump, jump code, dst, src, immediate)
    checks: list[tuple[bytes, int, int, int, int]] = [(b"", _JNE_K, 2, 0, _TYPES[rule.type])]
    access = sum(_ACCESS[letter] for letter in set(rule.access))
    if access != _ALL_ACCESS:
        # An allowance matches when nothing else is asked for, a denial when any of it is.
        masked = _op(_MOV32_X, 1, 3) + _op(_AND32_K, 1, immediate=access)
        checks.append((masked, _JNE_X, 1, 3, 0) if rule.allow else (masked, _JEQ_K, 1, 0, 0))
    if rule.major is not None and rule.major >= 0:
        checks.append((b"", _JNE_K, 4, 0, rule.major))
    if rule.minor is not None and rule.minor >= 0:
        checks.append((b"", _JNE_K, 5, 0, rule.minor))
    tail = len(verdict) // 8
    body = verdict
    for before, code, dst, src, immediate in reversed(checks):
        body = before + _op(code, dst, src, tail, immediate) + body
        tail = len(body) // 8
    return body


def attach(directory: str, rules: Iterable[oci.DeviceCgroup]) -> None:
    """Load the program of *rules* and put it in the place of those that are attached to *directory*."""
    code = program(rules_with_defaults(rules))
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        old = _attached(cgroup)
        new = _load(code)
        try:
            syscall.bpf(
                _BPF_PROG_ATTACH, struct.pack("=IIII", cgroup, new, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI)
            )
        finally:
            os.close(new)
        for number in old:
            _detach(cgroup, number)
    finally:
        os.close(cgroup)


def _load(code: bytes) -> int:
    instructions = syscall.bpf_buffer(code)
    licence = syscall.bpf_buffer(b"Apache-2.0\0")
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _TYPE_CGROUP_DEVICE,
        len(code) // 8,
        syscall.address_of(instructions),
        syscall.address_of(licence),
        0,
        0,
        0,
        0,
        0,
        b"wharfd_devices",
    )
    return syscall.bpf(_BPF_PROG_LOAD, attributes)


def _attached(cgroup: int) -> list[int]:
    """Ids of the device programs of this very directory."""
    count = 64
    ids = syscall.bpf_buffer(bytes(4 * count))
    query = struct.pack("=IIIIQII", cgroup, _ATTACH_CGROUP_DEVICE, 0, 0, syscall.address_of(ids), count, 0)
    found = syscall.bpf_read(_BPF_PROG_QUERY, query)
    (number,) = struct.unpack_from("=I", found, 24)
    return list(struct.unpack_from(f"={number}I", ids.raw))


def _detach(cgroup: int, number: int) -> None:
    old = syscall.bpf(_BPF_PROG_GET_FD_BY_ID, struct.pack("=III", number, 0, 0))
    try:
        syscall.bpf(_BPF_PROG_DETACH, struct.pack("=III", cgroup, old, _ATTACH_CGROUP_DEVICE))
    finally:
        os.close(old)
