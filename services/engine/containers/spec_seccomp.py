"""A seccomp profile in Docker's form, turned into the OCI document's.

Docker's profile adds conditions to OCI's (``includes``/``excludes`` by architecture, capability and
kernel version, ``archMap``); they are decided here, for this host and the container's capabilities
(moby/profiles ``seccomp``). The built-in profile is the runtime's and only named here.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.engine.containers.security import SecurityOptions
from services.protocol import oci
from services.protocol.errors import SystemError_
from services.protocol.settings import Settings

UNCONFINED = "unconfined"
BUILTIN = "builtin"
#: ``Seccomp.default_action`` of the runtime's own profile.
RUNTIME_DEFAULT = "default"

_ARCHITECTURES = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}


class _Filter(msgspec.Struct, rename="camel"):
    arches: list[str] = []
    caps: list[str] = []
    min_kernel: str = ""


class _Architecture(msgspec.Struct, rename="camel"):
    architecture: str = ""
    sub_architectures: list[str] | None = None


class _Syscall(msgspec.Struct, rename="camel"):
    action: str
    names: list[str] = []
    name: str = ""
    errno_ret: int | None = None
    args: list[oci.SeccompArg] | None = None
    includes: _Filter | None = None
    excludes: _Filter | None = None


class _Profile(msgspec.Struct, rename="camel"):
    default_action: str = ""
    default_errno_ret: int | None = None
    architectures: list[str] | None = None
    arch_map: list[_Architecture] | None = None
    flags: list[str] | None = None
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: list[_Syscall] | None = None


def build_seccomp(
    settings: Settings, options: SecurityOptions, capabilities: Sequence[str], *, privileged: bool
) -> oci.Seccomp | None:
    """None is unconfined. Raises ``SystemError_`` for a profile that cannot be read."""
    profile = options.seccomp
    if profile == UNCONFINED or (privileged and not profile):
        return None
    if not profile:
        profile = _daemon_profile(settings)
        if profile == UNCONFINED:
            return None
    if profile == BUILTIN:
        return oci.Seccomp(default_action=RUNTIME_DEFAULT)
    return convert(profile, capabilities)


def _daemon_profile(settings: Settings) -> str:
    if settings.seccomp_profile in ("", "default", BUILTIN):
        return BUILTIN
    if settings.seccomp_profile == UNCONFINED:
        return UNCONFINED
    try:
        return Path(settings.seccomp_profile).read_text(encoding="utf-8")
    except OSError as error:
        raise SystemError_(f"opening seccomp profile ({settings.seccomp_profile}) failed: {error}") from error


def convert(text: str, capabilities: Sequence[str]) -> oci.Seccomp | None:
    """Docker's JSON as OCI's, with the conditions decided; None for one that says nothing."""
    try:
        profile = msgspec.json.decode(text, type=_Profile)
    except msgspec.MsgspecError as error:
        reason = "unexpected end of JSON input" if "truncated" in str(error) else error
        raise SystemError_(f"Decoding seccomp profile failed: {reason}") from error
    if not profile.default_action and not profile.syscalls:
        return None
    return oci.Seccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=_architectures(profile),
        flags=profile.flags or [],
        listener_path=profile.listener_path,
        listener_metadata=profile.listener_metadata,
        syscalls=[_rule(call) for call in profile.syscalls or [] if _applies(call, capabilities)],
    )


def _architectures(profile: _Profile) -> list[str]:
    if profile.architectures and profile.arch_map:
        raise SystemError_(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, "
            "use either 'architectures' or 'archMap'"
        )
    if profile.architectures:
        return profile.architectures
    native = _ARCHITECTURES.get(os.uname().machine, ("", ""))[1]
    for item in profile.arch_map or []:
        if item.architecture == native:
            return [item.architecture, *(item.sub_architectures or [])]
    return []


def _rule(call: _Syscall) -> oci.SeccompRule:
    if call.name and call.names:
        raise SystemError_(
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
        )
    return oci.SeccompRule(
        names=call.names or [call.name], action=call.action, errno_ret=call.errno_ret, args=call.args or []
    )


def _applies(call: _Syscall, capabilities: Sequence[str]) -> bool:
    """All of a rule's inclusions and none of its exclusions hold."""
    arch = _ARCHITECTURES.get(os.uname().machine, (os.uname().machine, ""))[0]
    if (out := call.excludes) is not None and (
        arch in out.arches
        or any(name in capabilities for name in out.caps)
        or (out.min_kernel and _kernel_is(out.min_kernel))
    ):
        return False
    if (wanted := call.includes) is None:
        return True
    return (
        (not wanted.arches or arch in wanted.arches)
        and all(name in capabilities for name in wanted.caps)
        and (not wanted.min_kernel or _kernel_is(wanted.min_kernel))
    )


@functools.cache
def _kernel_is(minimum: str) -> bool:
    def version(text: str) -> tuple[int, int]:
        match = re.match(r"(\d+)\.(\d+)", text)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    return version(os.uname().release) >= version(minimum)
