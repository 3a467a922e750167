"""Ten thousand hostile archives, and some hundreds of them through a whole store.

``WHARFD_FUZZ_SEED`` and ``WHARFD_FUZZ_CASES`` choose other ones; a failure says its number and the seed.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from services.protocol.errors import WharfError
from tests.harness.engine import REPOSITORY
from tests.integration.fuzz import images, tars
from tests.integration.storage.storage import Storage, storage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="extracts as root")

SEED = os.environ.get("WHARFD_FUZZ_SEED", "wharfd")
CASES = int(os.environ.get("WHARFD_FUZZ_CASES", "10000"))
WORKERS = 2


def test_archives_taken_apart(tmp_path: Path) -> None:
    """In processes whose root directory is watched: nothing is written but where it belongs, all that is
    refused is refused in words, in time, with no descriptor left open."""
    share = -(-CASES // WORKERS)
    running = []
    for number in range(WORKERS):
        directory = tmp_path / str(number)
        directory.mkdir()
        command = [sys.executable, "-m", "tests.integration.fuzz.worker", SEED]
        command += [str(number * share), str(min(CASES, (number + 1) * share)), str(directory)]
        running.append(subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True))
    for process in running:
        output, _ = process.communicate(timeout=380)
        assert output, f"a worker died with status {process.returncode}"
        wrong = json.loads(output)["wrong"]
        assert not wrong, f"seed {SEED}: " + "\n".join(wrong)


def state(s: Storage) -> dict[str, Any]:
    """All that a load or an import may leave."""
    content = s.root / "image" / "overlay2"
    return {
        "names": s.names(),
        "directories": s.layer_directories(),
        "files": sorted(str(path) for path in content.rglob("*")),
        "temporary": sorted(path.name for path in (s.root / "tmp").iterdir()),
        "rows": [
            s.store.load(f"SELECT count(*) FROM {table}") for table in ("images", "layers", "image_names")
        ],
        "around": sorted(path.name for path in s.root.parent.iterdir()),
    }


async def settled(s: Storage, before: dict[str, Any], what: str) -> None:
    """What was removed goes in the background."""
    deadline = time.monotonic() + 90
    while (now := state(s)) != before and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert now == before, f"seed {SEED}, {what} left something"


async def forget(s: Storage) -> None:
    for record in list(s.images.store):
        await s.images.remove(record.id, force=True, prune=True)


def test_loads_of_a_store(tmp_path: Path) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            before = state(s)
            loaded = 0
            for number in range(250):
                told = await s.load(images.archive(number, SEED))
                failed = bool(told) and "error" in told[-1]
                loaded += not failed
                if failed:
                    assert "[Errno" not in str(told[-1]["error"]), (SEED, number)
                    assert "was killed" not in str(told[-1]["error"]), (SEED, number, told)
                await forget(s)  # of several images those before the bad one stay, as in dockerd
                await settled(s, before, f"load {number}")
            assert 20 < loaded < 230

    asyncio.run(body())


def test_imports_of_a_store(tmp_path: Path) -> None:
    async def body() -> None:
        async with storage(tmp_path / "root") as s:
            before = state(s)
            imported = 0
            for number in range(150):
                try:
                    await s.import_(tars.layer(number, SEED))
                    imported += 1
                except WharfError as error:
                    assert "was killed" not in str(error), (SEED, number)
                    await settled(s, before, f"import {number}")
                await forget(s)
                await settled(s, before, f"import {number}")
            assert 10 < imported < 140

    asyncio.run(body())
