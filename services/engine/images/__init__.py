"""Images: references, the store of configurations and names, load, import, list, remove."""

from services.engine.images.manager import ImageManager
from services.engine.images.model import SCHEMA

__all__ = ["SCHEMA", "ImageManager"]
