"""Volumes: named directories that outlive containers."""

from services.engine.volumes.manager import SCHEMA, VolumeManager

__all__ = ["SCHEMA", "VolumeManager"]
