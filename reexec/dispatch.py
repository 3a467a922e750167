"""``basename(argv[0])`` -> helper: what the symlinks named after the helpers point at."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from reexec.call import Call
from reexec.registry import HELPERS
from reexec.run import run_by_hand

#: Names and numbers of passed descriptors, ``root=5,client=6`` (set by :mod:`reexec.command`).
FDS_VARIABLE = "WHARFD_REEXEC_FDS"
DISPATCHER = "wharfd-reexec"
_PREFIX = "docker-"

_SCRIPT = """#!{python}
# Runs the helper named like the link it is called through.
import sys

sys.path.insert(0, {root!r})
from reexec.dispatch import main

main()
"""


def _passed_fds() -> dict[str, int]:
    fds = {"stdin": 0, "stdout": 1, "stderr": 2}
    for item in filter(None, os.environ.pop(FDS_VARIABLE, "").split(",")):
        name, _, number = item.partition("=")
        fds[name] = int(number)
    return fds


def run_as(argv: list[str]) -> int:
    """The helper ``argv[0]``, by hand; returns its exit status (1 if there is no such helper)."""
    return run_by_hand(Call(argv, _passed_fds()))


def init() -> None:
    """At the top of an entry point: under a helper's name, run that helper and exit.

    Any other program's name returns; a name of the helpers' form that is not registered is refused.
    """
    name = os.path.basename(sys.argv[0])
    if name in HELPERS or name.startswith(_PREFIX):
        sys.exit(run_as([name, *sys.argv[1:]]))


def main() -> None:
    """The dispatcher script: runs nothing but helpers."""
    init()
    if os.path.basename(sys.argv[0]) == DISPATCHER and len(sys.argv) > 1:
        sys.exit(run_as(sys.argv[1:]))
    print(
        f"{os.path.basename(sys.argv[0])}: call me by the name of a helper: {', '.join(sorted(HELPERS))}",
        file=sys.stderr,
    )
    sys.exit(1)


def install(directory: Path, python: str | None = None) -> Path:
    """The dispatcher script and one symlink per helper in *directory*; repeating it is harmless.

    Returns the script. *python* is the interpreter of its first line, by default the running one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    script = directory / DISPATCHER
    root = str(Path(__file__).resolve().parent.parent)
    _replace(script, _SCRIPT.format(python=python or sys.executable, root=root))
    for name in HELPERS:
        link, fresh = directory / name, directory / f".{name}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(DISPATCHER)
        fresh.replace(link)
    return script


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.replace(path)
