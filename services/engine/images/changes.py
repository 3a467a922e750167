"""``--change`` of import and commit: Dockerfile instructions that only alter the configuration."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from services.engine.dockerfile.instructions import check
from services.engine.dockerfile.parser import parse_line
from services.engine.dockerfile.settings import SETTINGS
from services.engine.dockerfile.target import Target
from services.engine.dockerfile.words import expand
from services.protocol.api.containers import Config
from services.protocol.errors import InvalidParameter

#: The builder's own; they say nothing about the configuration of a finished image.
_REFUSED = {"maintainer", "shell"}
_CHANGES = SETTINGS.keys() - _REFUSED


def apply_changes(config: Config, changes: Sequence[str]) -> None:
    """Change *config* in place. Raises ``InvalidParameter`` ("RUN is not a valid change command")."""
    target = Target(config)
    for line in changes:
        if not line.strip():
            continue
        node = parse_line(line, 1, "\\")
        if node.name not in _CHANGES:
            raise InvalidParameter(f"{node.written} is not a valid change command")
        expander = functools.partial(expand, env=target.environment(), escape="\\")
        SETTINGS[node.name](target, check(node), expander)
