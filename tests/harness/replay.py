"""Runs the transcripts listed in ``tests/replay.passing`` against a daemon made for them.

``python -m tests.harness.replay DIRECTORY``, where DIRECTORY has ``replay``, ``make-images`` and
``scenarios/``. The list has one transcript a line, relative to ``scenarios/``; it only grows. What is
meant to differ is in ``tests/replay.deviations`` (:mod:`tests.harness.deviations`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from tests.harness import deviations
from tests.harness.engine import REPOSITORY, Engine

#: Times a differing transcript is played: what is recorded assumes a host that is quick enough, and a tool of
#: theirs may meet a broken pipe.
TRIES = 6
PASSING = REPOSITORY / "tests/replay.passing"
DEVIATIONS = REPOSITORY / "tests/replay.deviations"


def listed() -> list[str]:
    if not PASSING.exists():
        return []
    lines = (line.partition("#")[0].strip() for line in PASSING.read_text().splitlines())
    return [line for line in lines if line]


def _play(daemon: Engine, tools: Path, files: list[Path]) -> list[Path]:
    """Which of *files* differ."""
    process = subprocess.Popen(
        [tools / "replay", *files], env=daemon.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    listed_deviations = deviations.read(DEVIATIONS)
    seen, differing = 0, []
    for one in deviations.played(_echoed(process.stdout)):
        seen += 1
        if deviations.passes(one, listed_deviations):
            continue
        if not one.count:
            print(f"listed in {DEVIATIONS.name}, but it does not differ: {one.path}", flush=True)
        differing.append(one.path)
    process.wait()
    if seen != len(files):
        raise RuntimeError("the transcripts could not be played")
    return differing


def _echoed(lines: IO[str]) -> Iterable[str]:
    for line in lines:
        print(line, end="", flush=True)
        yield line


def main() -> int:
    tools = Path(sys.argv[1]).resolve()
    names = sys.argv[2:] or listed()
    if not names:
        print("no transcripts are listed in tests/replay.passing")
        return 0
    daemon = Engine()
    try:
        daemon.start()
        archive = daemon.root / "images.tar"
        subprocess.run([tools / "make-images", archive], check=True)
        with archive.open("rb") as file:
            daemon.client.images.load(file)
        files = [tools / "scenarios" / name for name in names]
        for _ in range(TRIES):
            files = _play(daemon, tools, files)
            if not files:
                return 0
        return 1
    finally:
        daemon.close()


if __name__ == "__main__":
    sys.exit(main())
