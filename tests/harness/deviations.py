"""Where wharfd means to differ from the recorded engine: ``tests/replay.deviations``.

TOML, one table per command of a transcript: ``transcript``, ``command`` (as in the transcript, lines
joined), ``reason``, and ``diff``: the lines that are only in the recording (``-``) and those that are only
in wharfd's output (``+``), in the order in which ``replay`` prints them. A listed transcript passes when
exactly the listed commands differ, exactly so. With ``sometimes = true`` a command may differ so, or agree:
where luck or the host's speed decides; one table for each way in which it may differ. With ``host = true``
instead of ``diff`` the output depends on the host, and anything goes for that command.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: What ``replay`` prints before a line of a difference.
_INDENT = "    "
_DIFFERS = re.compile(r"(\d+) of \d+ differ: (\S+)")
_AGREES = re.compile(r"ok: (\S+)")


@dataclass(frozen=True)
class Deviation:
    transcript: str
    command: str
    reason: str
    diff: tuple[str, ...] = ()
    host: bool = False
    sometimes: bool = False


def read(path: Path) -> list[Deviation]:
    tables = tomllib.loads(path.read_text())["deviation"]
    return [Deviation(**{**table, "diff": tuple(table.get("diff", ()))}) for table in tables]


@dataclass
class Played:
    """A transcript as ``replay`` told of it; ``differences`` are its blocks from ``$`` on."""

    path: Path
    count: int
    differences: list[str]


def played(lines: Iterable[str]) -> Iterable[Played]:
    """From the output of ``replay``, as it comes."""
    blocks: list[str] = []
    for line in lines:
        if line.startswith("--- "):
            blocks.append(line.partition(": ")[2].removeprefix("$ "))
        elif found := _DIFFERS.fullmatch(line.rstrip("\n")):
            yield Played(Path(found[2]), int(found[1]), blocks)
            blocks = []
        elif found := _AGREES.fullmatch(line.rstrip("\n")):
            yield Played(Path(found[1]), 0, [])
            blocks = []
        elif blocks:
            blocks[-1] += line


def passes(one: Played, deviations: Iterable[Deviation]) -> bool:
    """Whether it differs as listed and in nothing else."""
    wanted = [item for item in deviations if one.path.match(item.transcript)]
    if one.count != len(one.differences):
        return False  # a command did not answer
    for block in one.differences:
        item = next((item for item in wanted if _is(block, item)), None)
        if item is None:
            return False
        wanted.remove(item)
    return all(item.host or item.sometimes for item in wanted)


def _is(block: str, deviation: Deviation) -> bool:
    command, lines = deviation.command + "\n", []
    if not block.startswith(command):
        return False
    for line in block[len(command) :].splitlines():
        text = line.removeprefix(_INDENT)
        if text.startswith(("-", "+")):
            lines.append(text.rstrip())
    return deviation.host or tuple(lines) == deviation.diff
