"""Debian's docker.io, unpacked beside the system: dockerd, containerd, runc and iptables.

The packages are downloaded by apt and unpacked below a cache directory. Nothing is installed: no
service is started, and the ``docker`` command on PATH stays what it is. An installed dockerd is
used as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wharfd-bench"
PACKAGE = "docker.io"


@dataclass(frozen=True)
class Reference:
    """Where the programs are; ``environment`` lets them find each other and their libraries."""

    dockerd: Path
    environment: dict[str, str]
    version: str


def find() -> Reference:
    """The installed dockerd, the unpacked one, or one that is now downloaded.

    Raises ``RuntimeError`` where it cannot be had.
    """
    installed = shutil.which("dockerd")
    if installed and shutil.which("containerd") and shutil.which("runc"):
        return _reference(Path(installed), dict(os.environ))
    root = CACHE / PACKAGE
    if not (root / "usr/sbin/dockerd").exists():
        _unpack(root)
    return _reference(root / "usr/sbin/dockerd", _environment(root))


def _reference(dockerd: Path, environment: dict[str, str]) -> Reference:
    out = subprocess.run(
        [dockerd, "--version"], env=environment, check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"version (\S+?),", out)
    return Reference(dockerd, environment, found[1] if found else out.strip())


def _environment(root: Path) -> dict[str, str]:
    libraries = [str(path) for path in (root / "usr/lib").glob("*-linux-gnu")]
    programs = [root / "wharfd-bench", root / "usr/sbin", root / "usr/bin"]
    return os.environ | {
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "LD_LIBRARY_PATH": ":".join(libraries),
        "XTABLES_LIBDIR": ":".join(f"{path}/xtables" for path in libraries),
    }


def _unpack(root: Path) -> None:
    if shutil.which("apt-get") is None:
        raise RuntimeError("no dockerd here, and no apt-get to bring Debian's")
    print(f"downloading Debian's {PACKAGE}", file=sys.stderr)
    archives = root.with_name(f"{root.name}.archives")
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir(parents=True)
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    plan = subprocess.run(
        ["apt-get", "install", "--simulate", "--no-install-recommends", PACKAGE],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    packages = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    subprocess.run(
        ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages], check=True, cwd=archives
    )
    fresh = root.with_name(f"{root.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", archive, fresh], check=True)
    _link_iptables(fresh)
    shutil.rmtree(archives)
    fresh.rename(root)


def _link_iptables(root: Path) -> None:
    """The names that Debian's alternatives would make."""
    multi = root / "usr/sbin/xtables-nft-multi"
    if not multi.exists():
        return
    links = root / "wharfd-bench"
    links.mkdir()
    for name in ("iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore"):
        (links / name).symlink_to("../usr/sbin/xtables-nft-multi")
