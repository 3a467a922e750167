"""The file through which the services get the settings."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from services.protocol import settings as settings_file
from services.protocol.settings import DEFAULT_HOST, Settings


def test_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERVISOR_ENABLED", raising=False)
    settings = Settings(exec_root=str(tmp_path), labels=["a=b"])
    settings_file.write(settings)
    assert settings_file.load(tmp_path) == settings
    assert os.listdir(tmp_path) == ["settings.json"]


def test_defaults_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERVISOR_ENABLED", raising=False)
    settings = settings_file.load(tmp_path)
    assert (settings.exec_root, settings.hosts) == (str(tmp_path), [DEFAULT_HOST])


def test_waits_for_the_settings_of_its_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERVISOR_ENABLED", "1")
    stale = Settings(exec_root=str(tmp_path), supervisor=1 if os.getppid() != 1 else 2, labels=["old=1"])
    settings_file.write(stale)
    with pytest.raises(TimeoutError):
        settings_file.load(tmp_path, timeout=0.05)
    fresh = Settings(exec_root=str(tmp_path), supervisor=os.getppid(), labels=["new=1"])
    timer = threading.Timer(0.1, settings_file.write, [fresh])
    timer.start()
    assert settings_file.load(tmp_path, timeout=60) == fresh
    timer.join()
