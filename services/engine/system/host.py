"""Facts about the host, read from the kernel's files once or when asked."""

from __future__ import annotations

import os
import platform
import uuid
from pathlib import Path

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def go_architecture() -> str:
    """The machine's architecture under Go's name, as image configs have it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def operating_system() -> tuple[str, str]:
    """(PRETTY_NAME, VERSION_ID) of os-release(5)."""
    release = platform.freedesktop_os_release()
    return release.get("PRETTY_NAME", "Linux"), release.get("VERSION_ID", "")


def memory_total() -> int:
    """Bytes of physical memory (sysconf(3))."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def is_unified_cgroup() -> bool:
    """True when cgroup v2 is the only hierarchy (cgroups(7))."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def read_flag(path: str) -> bool:
    """A sysctl file that holds 0 or 1."""
    try:
        return Path(path).read_text().strip() != "0"
    except OSError:
        return False


def engine_id(data_root: Path) -> str:
    """This data root's id, made once (``<data-root>/engine-id``)."""
    path = data_root / "engine-id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    made = str(uuid.uuid4())
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w") as file:
        file.write(made + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return made
