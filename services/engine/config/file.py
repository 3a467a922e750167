"""Reads daemon.json and joins it with the command line; a setting may stand in one of them only.

Texts are dockerd's (moby ``daemon/config/config.go``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reexec.distribution.proxies import masked
from services.engine.config.option import Adds, Option
from services.engine.config.options import BY_KEY


class ConfigError(ValueError):
    """The configuration file, or what it makes together with the flags, is wrong."""


def read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    """Flag name -> value for the keys of the file; empty when it is absent and may be.

    Raises :class:`ConfigError`.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"open {path}: no such file or directory") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"open {path}: {getattr(error, 'strerror', None) or error}") from None
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"invalid JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError("invalid JSON: the configuration must be an object")
    return _values(_flatten(document))


def _flatten(document: Mapping[str, Any]) -> dict[str, Any]:
    """``{"proxies": {"http-proxy": x}}`` is the one group of keys that the file nests."""
    flat = dict(document)
    proxies = flat.pop("proxies", None)
    if isinstance(proxies, dict):
        flat.update(proxies)
    return flat


def _values(document: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(key for key in document if key not in BY_KEY)
    if unknown:
        raise ConfigError(
            f"the following directives don't match any configuration option: {', '.join(unknown)}"
        )
    values: dict[str, Any] = {}
    for key, value in document.items():
        option = BY_KEY[key]
        try:
            values[option.flag] = option.kind.from_json(value)
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from None
    return values


def refuse_conflicts(flags: Mapping[str, Any], file: Mapping[str, Any]) -> None:
    """Raises :class:`ConfigError` when a setting is given twice."""
    conflicts = [
        f"{option.json_key}: (from flag: {show(option, flags[option.flag])}, "
        f"from file: {show(option, file[option.flag])})"
        for option in BY_KEY.values()
        if option.flag in flags and option.flag in file
    ]
    if conflicts:
        raise ConfigError(
            "the following directives are specified both as a flag and in the configuration file: "
            + ", ".join(conflicts)
        )


def show(option: Option, value: Any) -> str:
    """*value* as Go prints it; a proxy without its password."""
    if option.flag in ("http-proxy", "https-proxy"):
        return masked(value)
    if isinstance(value, bool):
        return str(value).lower()
    if option.kind.adds is Adds.APPENDS:
        return f"[{' '.join(map(str, value))}]"
    if option.kind.adds is Adds.MERGES:
        return f"map[{' '.join(f'{name}:{item}' for name, item in sorted(value.items()))}]"
    return str(value)
