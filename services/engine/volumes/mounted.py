"""What is mounted where, by the kernel's own list.

``os.path.ismount`` compares file systems: it does not see a directory bound from the same one, and a
removal that believes it deletes the directory's files.
"""

from __future__ import annotations

import re
from pathlib import Path

_ESCAPED = re.compile(r"\\([0-7]{3})")


def mounts_below(path: str) -> list[str]:
    """Mount points at *path* and below, as often as something is mounted there (proc(5), mountinfo)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        target = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), line.split(" ", 5)[4])
        if target == path or target.startswith(f"{path}/"):
            found.append(target)
    return found


def is_mounted(path: str) -> bool:
    return path in mounts_below(path)
