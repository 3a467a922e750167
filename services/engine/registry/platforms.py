"""Platforms: how users write them, and which manifest of an index is meant (containerd ``platforms``)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from services.protocol.errors import InvalidParameter

_PART = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_SYSTEMS = {"linux", "windows", "darwin", "freebsd", "wasip1", "netbsd", "openbsd", "solaris", "aix", "plan9"}
_KNOWN = {
    "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64",
    "mips64le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
}  # fmt: skip


@dataclass(frozen=True)
class Platform:
    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def _normalized(system: str, architecture: str, variant: str) -> Platform:
    architecture = architecture.lower()
    architecture, usual = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant.lower() or usual
    if architecture == "arm64" and variant in ("8", "v8"):
        variant = ""
    elif architecture == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    elif architecture == "amd64" and variant == "v1":
        variant = ""
    return Platform(system.lower(), architecture, variant)


def host() -> Platform:
    return _normalized("linux", os.uname().machine, "")


def parse(text: str) -> Platform:
    """``linux/arm64``, ``arm64``, ``linux``; raises ``InvalidParameter``."""
    parts = text.split("/")
    for part in parts:
        if not _PART.fullmatch(part):
            raise InvalidParameter(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                '"^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) == 1:
        word = parts[0].lower()
        if word in _SYSTEMS:
            return Platform(word, host().architecture)
        found = _normalized("linux", word, "")
        if found.architecture not in _KNOWN:
            raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')
        return found
    return _normalized(*parts) if len(parts) == 3 else _normalized(parts[0], parts[1], "")


def matches(wanted: Platform, system: str, architecture: str, variant: str) -> bool:
    """An index's entry is what is *wanted*; an entry without a variant is the usual one."""
    return _normalized(system or "linux", architecture, variant) == wanted


def is_for(wanted: Platform, system: str, architecture: str, variant: str) -> bool:
    """An image is what is *wanted*, or runs on it: for an older variant, for i386, or for none it says.

    Source: moby ``daemon/images``, OnlyPlatformWithFallback; containerd ``platforms.Only``.
    """
    have = _normalized(system or "linux", architecture, variant)
    if have.os != wanted.os:
        return False
    if wanted.architecture == "amd64" and have == Platform(wanted.os, "386"):
        return True
    if have.architecture != wanted.architecture:
        return False
    return not variant or _level(have) <= _level(wanted)


def _level(platform: Platform) -> int:
    """The number of ``v7``; the first one is not written."""
    digits = platform.variant.removeprefix("v")
    return int(digits) if digits.isdigit() else {"arm64": 8}.get(platform.architecture, 1)


def foreign(system: str, architecture: str) -> list[str]:
    """The warning about a container of an image that is not for this host; none if it is."""
    if not architecture or _normalized(system or "linux", architecture, "") == host():
        return []
    return [
        f"The requested image's platform ({system or 'linux'}/{architecture}) does not match the detected "
        f"host platform ({host()}) and no specific platform was requested"
    ]
