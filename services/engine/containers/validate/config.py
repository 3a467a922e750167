"""What depends on the image: working directory, stop signal, environment, health check."""

from __future__ import annotations

import posixpath

from msgspec import UNSET

from services.engine import signals
from services.protocol.api.containers import Config, HealthConfig
from services.protocol.errors import InvalidParameter

#: Nanoseconds.
_MINIMUM_DURATION = 1_000_000
#: Bytes: limits.h.
_PATH_MAX, _NAME_MAX = 4096, 255


def check_config(config: Config) -> None:
    check_working_dir(config)
    if config.stop_signal is not UNSET and config.stop_signal:
        signals.parse(config.stop_signal)
    for entry in config.env or []:
        if not entry.partition("=")[0]:
            raise InvalidParameter(f"invalid environment variable: {entry}")
    if config.healthcheck is not UNSET:
        check_health(config.healthcheck)


def check_working_dir(config: Config) -> None:
    """Absolute; written in its clean form."""
    if not config.working_dir:
        return
    if not config.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    check_path("mkdir", config.working_dir)
    config.working_dir = "/" + posixpath.normpath(config.working_dir).lstrip("/")


def check_path(action: str, path: str) -> None:
    """What the kernel would say of *path*, said before it is asked."""
    raw = path.encode(errors="surrogateescape")
    if "\0" in path:
        raise InvalidParameter(f"{action} {path}: invalid argument")
    if len(raw) >= _PATH_MAX or any(len(part) > _NAME_MAX for part in raw.split(b"/")):
        raise InvalidParameter(f"{action} {path}: file name too long")


def check_health(health: HealthConfig) -> None:
    for name, value in (("Interval", health.interval), ("Timeout", health.timeout)):
        _check_duration(name, value)
    if health.retries is not UNSET and health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
    for name, value in (("StartPeriod", health.start_period), ("StartInterval", health.start_interval)):
        _check_duration(name, value)


def _check_duration(name: str, value: object) -> None:
    if isinstance(value, int) and value != 0 and value < _MINIMUM_DURATION:
        raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
