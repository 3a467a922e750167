"""Graph drivers: how layers are kept on disk. :func:`choose` makes the daemon's."""

from services.engine.graphdrivers.base import Extraction, GraphDriver
from services.engine.graphdrivers.choose import choose

__all__ = ["Extraction", "GraphDriver", "choose"]
