"""Runs the transcripts listed in ``tests/replay.passing`` against a daemon made for them.

``python -m tests.harness.replay DIRECTORY``, where DIRECTORY has ``replay``, ``make-images`` and
``scenarios/``. The list has one transcript a line, relative to ``scenarios/``; it only grows.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.harness.engine import REPOSITORY, Engine

PASSING = REPOSITORY / "tests/replay.passing"


def listed() -> list[str]:
    if not PASSING.exists():
        return []
    lines = (line.partition("#")[0].strip() for line in PASSING.read_text().splitlines())
    return [line for line in lines if line]


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
        return subprocess.run([tools / "replay", *files], env=daemon.environment).returncode
    finally:
        daemon.close()


if __name__ == "__main__":
    sys.exit(main())
