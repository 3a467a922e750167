"""Hostile archives through the API: an error in the stream, and a data root as before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import requests

from tests.harness.engine import Engine
from tests.harness.readiness import wait_until
from tests.integration.fuzz import images, tars

SEED = "wharfd"
#: The database is written all the time; its content is looked at by the API.
_OWN = ("engine.db",)


def files(root: Path) -> set[str]:
    """Without those that are being removed this moment."""
    return {
        os.path.join(base, name)
        for base, directories, names in os.walk(root)
        for name in directories + names
        if not name.startswith(_OWN)
    }


def post(engine: Engine, path: str, body: bytes) -> tuple[int, list[dict[str, object]]]:
    """Status and documents of the answer."""
    session = engine.client.api
    answer = session.post(f"{session.base_url}/v1.50{path}", data=body)
    assert isinstance(answer, requests.Response)
    return answer.status_code, [json.loads(line) for line in answer.text.splitlines() if line.strip()]


def test_hostile_archives(engine: Engine) -> None:
    trash = engine.data_root / "overlay2" / "trash"
    wait_until(lambda: not os.listdir(trash), "what loading the first image has left is removed")
    before, listed = files(engine.data_root), engine.docker("images", "-aq", "--no-trunc").stdout
    refused = 0
    for number in range(60):
        if number % 3:
            status, told = post(engine, "/images/load?quiet=1", images.archive(number, SEED))
            assert status == 200
        else:
            status, told = post(engine, "/images/create?fromSrc=-", tars.layer(number, SEED))
            assert status in (200, 400, 500)
        text = str(told[-1].get("error") or told[-1].get("message") or "") if told else ""
        refused += bool(text)
        assert "was killed" not in text and "[Errno" not in text, (number, told)
        kept = set(listed.split())
        for found in set(engine.docker("images", "-aq", "--no-trunc").stdout.split()) - kept:
            engine.docker("rmi", "-f", found)
    assert 15 < refused < 60
    wait_until(lambda: files(engine.data_root) == before, "nothing is left of them")
    assert engine.docker("images", "-aq", "--no-trunc").stdout == listed
