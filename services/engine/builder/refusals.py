"""Options of instructions that are refused, in dockerd's words."""

from __future__ import annotations

from services.engine.builder.output import BuildFailed
from services.engine.dockerfile.instructions import Instruction


def refuse_flags(step: Instruction, *names: str) -> None:
    """Raises :class:`BuildFailed` for the first of *names* that *step* has."""
    for name in names:
        if name in step.flags:
            raise BuildFailed(
                f"the --{name} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to "
                "learn how to build images with BuildKit enabled"
            )
