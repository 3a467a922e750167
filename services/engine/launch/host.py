"""What the host must offer before anything is started; each lack is one clear line."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

#: mount_setattr(2) is of Linux 5.12; the runtime makes no mount without it.
MINIMUM_KERNEL = (5, 12)
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


@dataclass(frozen=True)
class Dependency:
    """A library or a program, and the Debian package that has it."""

    name: str
    package: str
    found: Callable[[str], bool]


def _library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _program(name: str) -> bool:
    return shutil.which(name) is not None


DEPENDENCIES = (Dependency("libseccomp.so.2", "libseccomp2", _library),)


def missing_dependencies(dependencies: Iterable[Dependency] = DEPENDENCIES) -> str:
    """One line that names what is missing and what to install; empty when all is there."""
    missing = [item for item in dependencies if not item.found(item.name)]
    if not missing:
        return ""
    names = ", ".join(item.name for item in missing)
    packages = " ".join(dict.fromkeys(item.package for item in missing))
    return f"missing system dependencies: {names} (Debian: apt-get install {packages})"


def kernel_problem(release: str | None = None, proc: Path = Path("/proc")) -> str:
    """Why this kernel cannot run containers; empty when it can."""
    release = release or os.uname().release
    match = re.match(r"(\d+)\.(\d+)", release)
    if match and (int(match[1]), int(match[2])) < MINIMUM_KERNEL:
        needed = ".".join(map(str, MINIMUM_KERNEL))
        return f"your Linux kernel version {release} is not supported: {needed} or newer is needed"
    absent = [name for name in NAMESPACES if not (proc / "self/ns" / name).exists()]
    if absent:
        return f"the kernel has no {', '.join(absent)} namespaces"
    mounts = (proc / "self/mounts").read_text()
    if not re.search(r"^\S+ /sys/fs/cgroup\S* cgroup2? ", mounts, re.MULTILINE):
        return "no cgroup hierarchy is mounted below /sys/fs/cgroup"
    return ""


def problem() -> str:
    """The first reason not to start; empty when there is none."""
    if os.geteuid() != 0:
        return "wharfd needs to be started with root privileges"
    return missing_dependencies() or kernel_problem()
