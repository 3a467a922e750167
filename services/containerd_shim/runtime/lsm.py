"""AppArmor profiles and SELinux labels, applied at execve through ``/proc/self/attr``."""

from __future__ import annotations

import os
from pathlib import Path

from services.containerd_shim.runtime.failures import StartError
from services.protocol.errors import InvalidParameter


def _apparmor() -> bool:
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False


APPARMOR = _apparmor()
SELINUX = os.path.exists("/sys/fs/selinux/enforce")


def check(apparmor_profile: str, selinux_label: str) -> None:
    """Refuse what this kernel cannot enforce, before anything is made."""
    if apparmor_profile and apparmor_profile != "unconfined" and not APPARMOR:
        raise InvalidParameter(
            f"apparmor profile {apparmor_profile!r} was requested, but AppArmor is not enabled on this host"
        )
    if selinux_label and not SELINUX:
        raise InvalidParameter(
            f"selinux label {selinux_label!r} was requested, but SELinux is not enabled on this host"
        )


def apply(proc_self: int, apparmor_profile: str, selinux_label: str) -> None:
    """Label the program that is executed next. *proc_self* is the host's ``/proc/self`` directory.

    The descriptor was opened before the container's ``/proc`` could be in the way (CVE-2019-16884).
    """
    if selinux_label:
        _write(proc_self, "attr/exec", selinux_label)
    if apparmor_profile and APPARMOR:
        try:
            _write(proc_self, "attr/apparmor/exec", f"exec {apparmor_profile}")
        except FileNotFoundError:
            _write(proc_self, "attr/exec", f"exec {apparmor_profile}")


def _write(proc_self: int, path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc_self)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise StartError(f"unable to apply {path}: {(error.strerror or '').lower()}") from error
    finally:
        os.close(fd)
