"""Registries as the engine knows them: where they are, as whom to ask, and helpers that do."""

from services.engine.registry.client import RegistryClient

__all__ = ["RegistryClient"]
