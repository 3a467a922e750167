"""All options, in the order of the usage text."""

from __future__ import annotations

from services.engine.config import options_containers, options_daemon, options_network
from services.engine.config.option import Option

OPTIONS: tuple[Option, ...] = tuple(
    sorted(
        options_containers.OPTIONS + options_daemon.OPTIONS + options_network.OPTIONS,
        key=lambda option: option.flag,
    )
)

BY_FLAG = {option.flag: option for option in OPTIONS}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
BY_KEY = {option.json_key: option for option in OPTIONS if option.json_key}
BY_FIELD = {option.field: option for option in OPTIONS if option.field}
