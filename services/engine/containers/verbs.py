"""The verbs of creating, looking at and changing containers."""

from __future__ import annotations

from services.engine.containers.services import Services
from services.engine.rpc import Router


def register(router: Router, services: Services) -> None:
    """Serve the verbs of this module on *router*."""
