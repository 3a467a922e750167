"""Layers as the engine knows them, and their tables."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from services.engine.store import Schema

SCHEMA = Schema(
    "layers",
    (
        """CREATE TABLE layers (
            chain_id TEXT PRIMARY KEY, parent TEXT NOT NULL, diff_id TEXT NOT NULL,
            cache_id TEXT NOT NULL UNIQUE, size INTEGER NOT NULL);
        CREATE TABLE rw_layers (container_id TEXT PRIMARY KEY, chain_id TEXT NOT NULL)""",
    ),
)

#: In place of a cache id where an image has no layers.
NO_LAYER = "0" * 64


@dataclass(frozen=True)
class Layer:
    """A read-only layer. ``parent`` is a chain id or ""; ``cache_id`` the graph driver's name for it.

    ``size`` is the extracted files' bytes, this layer's alone.
    """

    chain_id: str
    parent: str
    diff_id: str
    cache_id: str
    size: int


def chain_id(parent: str, diff_id: str) -> str:
    """Chain id of *diff_id* on top of chain *parent* (OCI image specification, config.md)."""
    if not parent:
        return diff_id
    return "sha256:" + hashlib.sha256(f"{parent} {diff_id}".encode()).hexdigest()


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Chain ids from the lowest layer up."""
    chain, chains = "", []
    for diff_id in diff_ids:
        chain = chain_id(chain, diff_id)
        chains.append(chain)
    return chains
