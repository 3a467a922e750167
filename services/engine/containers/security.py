"""``SecurityOpt`` of a container, parsed (moby ``parseSecurityOpt``)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.engine.containers.values import parse_bool
from services.protocol.errors import SystemError_, Unimplemented


class SecurityOptions(msgspec.Struct, kw_only=True):
    """``seccomp`` is "" (the daemon's default), ``unconfined``, ``builtin`` or a profile's JSON."""

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    writable_cgroups: bool = False


@functools.cache
def selinux_enabled() -> bool:
    return Path("/sys/fs/selinux/enforce").exists()


def parse(options: Sequence[str] | None, *, no_new_privileges: bool = False) -> SecurityOptions:
    """Raises ``SystemError_`` with Docker's texts (its engine answers 500 here)."""
    parsed = SecurityOptions(no_new_privileges=no_new_privileges)
    for option in options or []:
        _apply(parsed, option)
    return parsed


def _apply(parsed: SecurityOptions, option: str) -> None:
    if option == "no-new-privileges":
        parsed.no_new_privileges = True
        return
    if option == "writable-cgroups":
        parsed.writable_cgroups = True
        return
    if option == "disable":
        return
    separator = "=" if "=" in option else ":"
    key, found, value = option.partition(separator)
    if not found:
        raise SystemError_(f'invalid --security-opt 1: "{option}"')
    if key == "label":
        _check_label(value)
    elif key == "apparmor":
        parsed.apparmor = value
    elif key == "seccomp":
        parsed.seccomp = value
    elif key in ("no-new-privileges", "writable-cgroups"):
        try:
            flag = parse_bool(value)
        except ValueError as error:
            raise SystemError_(f'invalid --security-opt 2: "{option}"') from error
        if key == "no-new-privileges":
            parsed.no_new_privileges = flag
        else:
            parsed.writable_cgroups = flag
    else:
        raise SystemError_(f'invalid --security-opt 2: "{option}"')


def _check_label(value: str) -> None:
    """Labels mean nothing without SELinux, as in Docker; with it they are not implemented."""
    if value != "disable" and selinux_enabled():
        raise Unimplemented(f"SELinux labels (--security-opt label={value}) are not implemented")
