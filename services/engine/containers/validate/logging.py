"""Log drivers and their options (moby ``logger.ValidateLogOpts`` and each driver's own check).

Only the names of options are checked at create; their values are the driver's, when it starts.
"""

from __future__ import annotations

from collections.abc import Mapping

from services.engine.containers.values import ram_in_bytes
from services.protocol.api.containers import LogConfig
from services.protocol.errors import InvalidParameter
from services.protocol.settings import Settings

NONE = "none"
#: Options each driver knows, beside those of every driver.
_OPTIONS: dict[str, frozenset[str]] = {
    "json-file": frozenset(
        {"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}
    ),
    "local": frozenset({"max-file", "max-size", "compress"}),
    NONE: frozenset(),
}
_COMMON = frozenset({"mode", "max-buffer-size"})


def merge_log_config(settings: Settings, config: LogConfig | None) -> LogConfig:
    """The container's configuration over the daemon's, checked; the options are a map, never null."""
    merged = config or LogConfig()
    driver = merged.type_ or settings.log_driver
    options = dict(merged.config or {})
    if driver == settings.log_driver and driver != NONE:
        options = {**settings.log_opts, **options}
    check_log_options(driver, options)
    return LogConfig(type_=driver, config=options)


def check_log_options(driver: str, options: Mapping[str, str]) -> None:
    if driver not in _OPTIONS:
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        try:
            ram_in_bytes(options["max-buffer-size"])
        except ValueError as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from error
    if driver == NONE:
        return
    for name in options:
        if name not in _OPTIONS[driver] | _COMMON:
            place = "log driver local" if driver == "local" else f"{driver} log driver"
            raise InvalidParameter(f"unknown log opt '{name}' for {place}")
