"""Platforms: how users write them, and which manifest of an index is meant (containerd ``platforms``)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

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


def _written(platform: Platform) -> Platform:
    """A platform with the usual variant left out, as Docker shows it."""
    usual = platform.architecture == "arm" and platform.variant == "v7"
    return replace(platform, variant="") if usual else platform


def _canonical(platform: Platform) -> Platform:
    return _normalized(platform.os, platform.architecture, platform.variant)


def host() -> Platform:
    return _normalized("linux", os.uname().machine, "")


def parse(text: str) -> Platform:
    """``linux/arm64``, ``arm64``, ``linux``; raises ``InvalidParameter``.

    The variant stays as it is given where all three are: it is shown, and recorded for an import.
    """
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
        return _written(found)
    if len(parts) == 2:
        return _written(_normalized(parts[0], parts[1], ""))
    found = _normalized(*parts)
    return replace(found, variant="v8") if found.architecture == "arm64" and not found.variant else found


def _runnable(wanted: Platform) -> list[Platform]:
    """What runs on a platform, the best first (containerd ``platforms.Only``)."""
    wanted = _canonical(wanted)
    number = wanted.variant.removeprefix("v")
    level = int(number) if number.isdigit() else 0
    found = [wanted]
    if wanted.architecture == "amd64":
        found += [_normalized(wanted.os, "amd64", f"v{n}") for n in range(min(level, 9) - 1, 0, -1)]
        found.append(Platform(wanted.os, "386"))
    elif wanted.architecture == "arm":
        found += [Platform(wanted.os, "arm", f"v{n}") for n in range(min(level, 9) - 1, 4, -1)]
    elif wanted.architecture == "arm64":
        if wanted.variant:
            found.append(Platform(wanted.os, "arm64"))
        found += [Platform(wanted.os, "arm", f"v{n}") for n in range(8, 4, -1)]
    return found


def rank(wanted: Platform, system: str, architecture: str, variant: str) -> int | None:
    """How well what is for a platform serves the one that is *wanted*: 0 is best, None not at all.

    What does not say what it is for is the last to be tried.
    """
    runnable = _runnable(wanted)
    if not system and not architecture:
        return len(runnable)
    have = _normalized(system or "linux", architecture, variant)
    return runnable.index(have) if have in runnable else None


def is_for(wanted: Platform, system: str, architecture: str, variant: str) -> bool:
    """An image is what is *wanted*, or runs on it: for an older variant, for i386, or for none it says.

    Source: moby ``daemon/images``, OnlyPlatformWithFallback; containerd ``platforms.Only``.
    """
    have, wanted = _normalized(system or "linux", architecture, variant), _canonical(wanted)
    if have in _runnable(wanted):
        return True
    return not variant and (have.os, have.architecture) == (wanted.os, wanted.architecture)


def foreign(system: str, architecture: str) -> list[str]:
    """The warning about a container of an image that is not for this host; none if it is."""
    if not architecture or _normalized(system or "linux", architecture, "") == host():
        return []
    return [
        f"The requested image's platform ({system or 'linux'}/{architecture}) does not match the detected "
        f"host platform ({host()}) and no specific platform was requested"
    ]
