"""Seccomp filters: an OCI document compiled to BPF by libseccomp, loaded by seccomp(2).

Compiling takes milliseconds and memory; loading takes microseconds. So :func:`program` keeps every
compiled filter by its document: the zygote compiles the default one before its first
fork (:func:`warm`) and containers inherit it.
"""

from __future__ import annotations

import errno
import os

import msgspec

from services.containerd_shim.runtime import bpf, failures, seccomp_default, syscall
from services.protocol import oci
from services.protocol.errors import InvalidParameter, Unavailable, Unimplemented

try:
    import pyseccomp
except RuntimeError:
    # The binding's way to say that the library is missing; a container that needs it is refused.
    pyseccomp = None

#: The action name that stands for wharfd's own profile.
DEFAULT = "default"

#: SECCOMP_RET_* and SCMP_CMP_* (linux/seccomp.h, seccomp.h).
_ERRNO = {"SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_TRACE": 0x7FF00000}
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_LOG": 0x7FFC0000,
}
_MASKED_EQ = 7
_OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": _MASKED_EQ,
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}
_LISTENERS_FLAG = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
#: System calls have no more.
_ARGUMENTS = 6
#: __NR_SCMP_ERROR: a name that this libseccomp does not know.
_UNKNOWN = -1
#: A document, or the capabilities that the default profile is made for -> program.
_cache: dict[bytes | frozenset[str], bytes] = {}
_CACHE_LIMIT = 64


def flags(document: oci.Seccomp) -> int:
    """seccomp(2) flags of *document*; raises for those that need a listener.

    Without any the container is spared the mitigation of speculative store bypass, as with runc: it
    costs every container performance to guard secrets from its own processes.
    """
    if not document.flags:
        return _FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    result = 0
    for name in document.flags:
        if name == _LISTENERS_FLAG:
            raise Unimplemented(f"seccomp flag {name!r} is not implemented")
        if name not in _FLAGS:
            raise failures.invalid(f"seccomp flag {name} is not known to runc")
        result |= _FLAGS[name]
    return result


def program(document: oci.Seccomp, capabilities: frozenset[str]) -> bytes:
    """The BPF program of *document* (the default profile depends on *capabilities*)."""
    if document.listener_path or document.listener_metadata:
        raise Unimplemented("seccomp notification (listenerPath) is not implemented")
    is_default = document.default_action == DEFAULT
    key = capabilities if is_default else msgspec.msgpack.encode(document)
    compiled = _cache.get(key)
    if compiled is None:
        compiled = _compile(seccomp_default.profile(capabilities) if is_default else document)
        if len(_cache) >= _CACHE_LIMIT:
            _cache.pop(next(iter(_cache)))
        _cache[key] = compiled
    return compiled


def warm(capabilities: frozenset[str]) -> None:
    """Compile the default profile for *capabilities* ahead of the first container."""
    program(oci.Seccomp(default_action=DEFAULT), capabilities)


def _action(name: str, errno_ret: int | None) -> int:
    if name in _ERRNO:
        value = errno.EPERM if errno_ret is None else errno_ret
        return _ERRNO[name] | value & 0xFFFF
    if name == "SCMP_ACT_NOTIFY":
        raise Unimplemented("seccomp action SCMP_ACT_NOTIFY is not implemented")
    if name not in _ACTIONS:
        raise failures.invalid(f"string {name} is not a valid action for seccomp")
    return _ACTIONS[name]


def _compile(document: oci.Seccomp) -> bytes:
    if pyseccomp is None:
        raise Unavailable("seccomp filters need libseccomp, which is not installed (Debian: libseccomp2)")
    default = _action(document.default_action, document.default_errno_ret)
    newer: dict[int, int] = {}
    try:
        compiled = pyseccomp.SyscallFilter(default)
        # The runtime sets no_new_privs where the spec asks for it, and only there.
        compiled.set_attr(pyseccomp.Attr.CTL_NNP, 0)
        _add_architectures(compiled, document)
        for rule in document.syscalls:
            action = _action(rule.action, rule.errno_ret)
            if action == default:
                continue
            for name in rule.names:
                number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
                if number != _UNKNOWN:
                    _check_arguments(name, rule.args)
                    _add_rule(compiled, action, number, rule.args)
                elif name in bpf.UNIFIED and not rule.args:
                    newer[bpf.UNIFIED[name]] = action
        refuse_unknown = document.default_action == "SCMP_ACT_ERRNO"
        return bpf.prelude(newer, refuse_unknown=refuse_unknown) + _export(compiled)
    except OSError as error:
        raise InvalidParameter(f"error building seccomp filter: {os.strerror(error.errno or 0)}") from error


def _add_architectures(compiled: pyseccomp.SyscallFilter, document: oci.Seccomp) -> None:
    for name in document.architectures:
        architecture = getattr(pyseccomp.Arch, name.removeprefix("SCMP_ARCH_"), None)
        if architecture is None:
            raise failures.invalid(f"string {name} is not a valid arch for seccomp")
        try:
            compiled.add_arch(architecture)
        except FileExistsError:
            pass


def _add_rule(
    compiled: pyseccomp.SyscallFilter, action: int, number: int, conditions: list[oci.SeccompArg]
) -> None:
    arguments = [_condition(condition) for condition in conditions]
    indexes = {condition.index for condition in conditions}
    if len(indexes) == len(conditions):
        compiled.add_rule(action, number, *arguments)
        return
    # libseccomp takes one condition per argument and rule; as in runc, several become alternatives.
    for argument in arguments:
        compiled.add_rule(action, number, argument)


def _check_arguments(name: str, conditions: list[oci.SeccompArg]) -> None:
    for condition in conditions:
        if condition.index >= _ARGUMENTS:
            raise failures.StartError(
                f"{failures.INIT}error creating seccomp syscall condition for syscall {name}: "
                f"syscalls only have up to {_ARGUMENTS} arguments ({condition.index} given)"
            )


def _condition(condition: oci.SeccompArg) -> pyseccomp.Arg:
    operator = _OPERATORS.get(condition.op)
    if operator is None:
        raise failures.invalid(f"string {condition.op} is not a valid operator for seccomp")
    if operator == _MASKED_EQ:
        return pyseccomp.Arg(condition.index, operator, condition.value, condition.value_two)
    return pyseccomp.Arg(condition.index, operator, condition.value)


def _export(compiled: pyseccomp.SyscallFilter) -> bytes:
    with os.fdopen(os.memfd_create("seccomp"), "w+b") as file:
        compiled.export_bpf(file)
        file.seek(0)
        return file.read()


def load(filter_program: bytes, filter_flags: int) -> None:
    """Install the filter for this (single-threaded) process."""
    syscall.seccomp_load(filter_program, filter_flags)


def available() -> bool:
    """Whether libseccomp is installed."""
    return pyseccomp is not None


def action_names() -> list[str]:
    return sorted([*_ACTIONS, *_ERRNO])


def operator_names() -> list[str]:
    return sorted(_OPERATORS)


def flag_names() -> list[str]:
    return sorted(_FLAGS)
