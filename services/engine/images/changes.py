"""``--change`` of import and commit: Dockerfile instructions that only alter the configuration."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from services.engine.dockerfile.instructions import Instruction, check
from services.engine.dockerfile.parser import Node, parse_changes
from services.engine.dockerfile.settings import SETTINGS
from services.engine.dockerfile.target import Target
from services.engine.dockerfile.words import expand
from services.protocol.api.containers import Config
from services.protocol.errors import InvalidParameter

#: The builder's own; they say nothing about the configuration of a finished image.
_REFUSED = {"maintainer", "shell"}
_CHANGES = SETTINGS.keys() - _REFUSED


def apply_changes(config: Config, changes: Sequence[str]) -> None:
    """Change *config* in place. *changes* together are the text of a Dockerfile without FROM, all of it
    checked before the first is made. Raises ``InvalidParameter`` ("RUN is not a valid change command")."""
    if not changes:
        return
    nodes, escape = parse_changes("\n".join(changes))
    target = Target(config)
    for node, step in [(node, _checked(node)) for node in nodes]:
        expander = functools.partial(expand, env=target.environment(), escape=escape)
        SETTINGS[node.name](target, step, expander)


def _checked(node: Node) -> Instruction:
    if node.name not in _CHANGES:
        raise InvalidParameter(f"{node.written} is not a valid change command")
    return check(node)
