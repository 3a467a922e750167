"""A tree that is deeper than calls may be nested, and than a path may be long."""

from __future__ import annotations

import os
from pathlib import Path


def nest(top: Path, depth: int) -> None:
    """*depth* directories, one in the other, and some files, made as a container's process would."""
    here = os.open(top, os.O_RDONLY)
    for number in range(depth):
        os.mkdir("directory", dir_fd=here)
        if number % 100 == 0:
            os.close(os.open("file", os.O_CREAT, dir_fd=here))
        below = os.open("directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
