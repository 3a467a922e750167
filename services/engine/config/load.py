"""Command line and daemon.json to :class:`~services.protocol.settings.Settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.engine.config import checks, file, flags
from services.engine.config.file import ConfigError
from services.engine.config.hosts import parse_host
from services.engine.config.options import BY_FLAG, OPTIONS
from services.protocol.settings import DEFAULT_HOST, Settings

#: Exists only where cgroup v2 is the whole hierarchy (cgroups(7)).
_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")


@dataclass(frozen=True)
class Invocation:
    """A command line that was understood: what to do, and the options to do it with."""

    action: str  # "run", "validate", "help" or "version"
    settings: Settings
    argv: tuple[str, ...]


def invocation(argv: Sequence[str]) -> Invocation:
    """Raises :class:`~services.engine.config.flags.UsageError` and :class:`ConfigError`."""
    given = flags.parse(argv)
    for action in ("help", "version"):
        if given.get(action):
            return Invocation(action, Settings(), tuple(argv))
    action = "validate" if given.get("validate") else "run"
    return Invocation(action, merge(given), tuple(argv))


def merge(given: Mapping[str, Any]) -> Settings:
    """The settings that the given flags and the configuration file make. Raises :class:`ConfigError`."""
    path = Path(given.get("config-file", BY_FLAG["config-file"].default))
    try:
        from_file = file.read(path, must_exist="config-file" in given)
        file.refuse_conflicts(given, from_file)
    except ConfigError as error:
        raise ConfigError(f"unable to configure the Docker daemon with file {path}: {error}") from None
    values = {option.flag: option.default for option in OPTIONS} | from_file | dict(given)
    chosen = set(from_file) | set(given)
    if "default-cgroupns-mode" not in chosen and _UNIFIED.exists():
        values["default-cgroupns-mode"] = "private"
    checks.check(values)
    _complete(values, chosen)
    return Settings(**{option.field: values[option.flag] for option in OPTIONS if option.field})


def _complete(values: dict[str, Any], chosen: set[str]) -> None:
    """Make paths absolute and let what follows from another option follow it."""
    for flag in ("data-root", "exec-root", "pidfile"):
        values[flag] = os.path.abspath(values[flag])
    if "pidfile" not in chosen:
        values["pidfile"] = f"{values['exec-root']}/wharfd.pid"
    if values["debug"]:
        values["log-level"] = "debug"
    try:
        values["host"] = list(dict.fromkeys(map(parse_host, values["host"]))) or [DEFAULT_HOST]
    except ValueError as error:
        raise ConfigError(str(error)) from None
