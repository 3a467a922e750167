"""Layers: chains of read-only ones, and one read-write layer per container."""

from services.engine.layers.making import Making
from services.engine.layers.manager import LayerManager
from services.engine.layers.model import SCHEMA, Layer, chain_id, chain_ids

__all__ = ["SCHEMA", "Layer", "LayerManager", "Making", "chain_id", "chain_ids"]
