"""The default profile decides as Docker's does; documents compile to what they say."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from services.containerd_shim.runtime import bpf, seccomp, seccomp_default
from services.containerd_shim.runtime.failures import StartError
from services.protocol import oci
from services.protocol.errors import SystemError_, Unimplemented

#: Docker's profile, where the source material lies next to the repository.
REFERENCE = next(
    (
        path
        for parent in Path(__file__).resolve().parents
        if (path := parent / "shared/spec/seccomp-default.json").exists()
    ),
    None,
)
DEFAULT = frozenset(
    {"CAP_CHOWN", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}
)
SETS = [
    frozenset[str](),
    DEFAULT,
    DEFAULT | {"CAP_SYS_ADMIN"},
    frozenset({"CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"}),
    frozenset({"CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_SYS_NICE", "CAP_DAC_READ_SEARCH"}),
    frozenset({"CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_PACCT", "CAP_SYS_RAWIO", "CAP_SYS_TTY_CONFIG"}),
]
#: uname -m -> the profile's name of it
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}
Decisions = set[tuple[str, str, int | None, tuple[tuple[int, str, int, int], ...]]]


def applies(rule: dict[str, Any], capabilities: frozenset[str], arch: str) -> bool:
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if not capabilities.issuperset(includes.get("caps", ())):
        return False
    if arch in excludes.get("arches", ()):
        return False
    return not capabilities & set(excludes.get("caps", ()))


def reference(capabilities: frozenset[str], arch: str) -> tuple[Decisions, list[str]]:
    assert REFERENCE is not None
    document = json.loads(REFERENCE.read_text())
    decisions: Decisions = set()
    for rule in document["syscalls"]:
        if not applies(rule, capabilities, arch):
            continue
        arguments = tuple(
            (item["index"], item["op"], item["value"], item.get("valueTwo", 0))
            for item in rule.get("args", ())
        )
        decisions |= {(name, rule["action"], rule.get("errnoRet"), arguments) for name in rule["names"]}
    native = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64", "riscv64": "SCMP_ARCH_RISCV64"}[arch]
    entry = next(item for item in document["archMap"] if item["architecture"] == native)
    return decisions, [native, *(entry["subArchitectures"] or [])]


def decisions_of(profile: oci.Seccomp) -> Decisions:
    return {
        (
            name,
            rule.action,
            rule.errno_ret,
            tuple((item.index, item.op, item.value, item.value_two) for item in rule.args),
        )
        for rule in profile.syscalls
        for name in rule.names
    }


@pytest.mark.skipif(REFERENCE is None, reason="Docker's profile is not at hand")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("capabilities", SETS, ids=lambda names: "+".join(sorted(names)) or "none")
def test_default_profile_decides_as_dockers(machine: str, capabilities: frozenset[str]) -> None:
    profile = seccomp_default.profile(capabilities, machine=machine, kernel=(6, 1))
    expected, architectures = reference(capabilities, MACHINES[machine])
    assert decisions_of(profile) == expected
    assert profile.architectures == architectures
    assert (profile.default_action, profile.default_errno_ret) == ("SCMP_ACT_ERRNO", 1)


def test_old_kernels_do_not_allow_ptrace() -> None:
    names = {name for name, *_ in decisions_of(seccomp_default.profile(frozenset(), kernel=(4, 7)))}
    assert "ptrace" not in names and "read" in names


def test_programs_are_compiled_once() -> None:
    default = oci.Seccomp(default_action="default")
    assert seccomp.program(default, DEFAULT) is seccomp.program(default, frozenset(DEFAULT))
    assert seccomp.program(default, DEFAULT) != seccomp.program(default, SETS[2])
    own = oci.Seccomp(default_action="SCMP_ACT_ALLOW")
    assert seccomp.program(own, DEFAULT) is seccomp.program(
        oci.Seccomp(default_action="SCMP_ACT_ALLOW"), DEFAULT
    )


def with_condition(index: int, op: str) -> oci.Seccomp:
    condition = oci.SeccompArg(index=index, value=1, op=op)
    rule = oci.SeccompRule(names=["kill"], action="SCMP_ACT_ERRNO", args=[condition])
    return oci.Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=[rule])


@pytest.mark.parametrize(
    ("document", "error", "text"),
    [
        (oci.Seccomp(default_action="SCMP_ACT_BOGUS"), SystemError_, "SCMP_ACT_BOGUS"),
        (oci.Seccomp(default_action="SCMP_ACT_NOTIFY"), Unimplemented, "NOTIFY"),
        (oci.Seccomp(default_action="SCMP_ACT_ALLOW", listener_path="/x"), Unimplemented, "listenerPath"),
        (
            oci.Seccomp(default_action="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_VAX"]),
            SystemError_,
            "runc create failed: string SCMP_ARCH_VAX is not a valid arch for seccomp",
        ),
        (
            with_condition(index=1, op="SCMP_CMP_XX"),
            SystemError_,
            "runc create failed: string SCMP_CMP_XX is not a valid operator for seccomp",
        ),
        (
            with_condition(index=6, op="SCMP_CMP_EQ"),
            StartError,
            r"condition for syscall kill: syscalls only have up to 6 arguments \(6 given\)",
        ),
    ],
)
def test_what_cannot_be_compiled_is_named(document: oci.Seccomp, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        seccomp.program(document, frozenset())


def test_flags() -> None:
    assert seccomp.flags(oci.Seccomp(default_action="x")) == 4
    assert seccomp.flags(oci.Seccomp(default_action="x", flags=["SECCOMP_FILTER_FLAG_LOG"])) == 2


def test_unknown_flag_is_refused() -> None:
    with pytest.raises(
        SystemError_, match="seccomp flag SECCOMP_FILTER_FLAG_NEW_LISTENER is not known to runc"
    ):
        seccomp.flags(oci.Seccomp(default_action="x", flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"]))


def run_bpf(program: bytes, arch: int, number: int) -> int | None:
    """A classic BPF machine, as far as the prelude needs one; None when it falls through."""
    instructions = [struct.unpack_from("=HBBI", program, offset) for offset in range(0, len(program), 8)]
    accumulator, position = 0, 0
    while position < len(instructions):
        code, true, false, value = instructions[position]
        position += 1
        if code == 0x20:
            accumulator = {0: number, 4: arch}[value]
        elif code == 0x06:
            return int(value)
        else:
            taken = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}[code]
            position += true if taken else false
    return None


X86_64 = 0xC000003E


@pytest.mark.parametrize(
    ("arch", "number", "expected"),
    [
        (X86_64, 462, 0x7FFF0000),
        (X86_64, 463, None),
        (X86_64, 0, None),
        (X86_64, 500, 0x50026),
        (X86_64, 0x40000000 + 500, None),
        (0x40000003, 462, None),
    ],
)
def test_prelude(monkeypatch: pytest.MonkeyPatch, arch: int, number: int, expected: int | None) -> None:
    monkeypatch.setitem(bpf._AUDIT_ARCH, os.uname().machine, X86_64)
    program = bpf.prelude({462: 0x7FFF0000}, refuse_unknown=True)
    assert run_bpf(program, arch, number) == expected
