"""The daemon's proxy options become variables of the environment, as in dockerd."""

from __future__ import annotations

import logging
import os

from reexec.distribution.proxies import VARIABLES, Proxies, environment, masked
from services.protocol.settings import Settings

log = logging.getLogger(__name__)


def apply(settings: Settings) -> None:
    """Set the variables that *settings* have a value for."""
    given = (settings.http_proxy, settings.https_proxy, settings.no_proxy)
    for name, value in zip(VARIABLES, given, strict=True):
        if not value:
            continue
        if os.environ.get(name, value) != value:
            log.warning("overriding existing proxy variable with value from configuration: %s", name)
        os.environ[name] = value


def variables() -> dict[str, str]:
    """For a helper, whose parent has another environment."""
    found = environment()
    return {name: getattr(found, field) for name, field in zip(VARIABLES, _FIELDS, strict=True)}


def shown() -> Proxies:
    """As ``docker info`` has them."""
    found = environment()
    return Proxies(masked(found.http), masked(found.https), found.skipped)


_FIELDS = Proxies.__struct_fields__
