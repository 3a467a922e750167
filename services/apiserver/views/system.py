"""System documents as older API versions show them."""

from __future__ import annotations

from typing import Any

Version = tuple[int, int]


def info(document: dict[str, Any], version: Version) -> dict[str, Any]:
    if version < (1, 50):
        document.pop("FirewallBackend", None)
    if version < (1, 46):
        document.pop("Containerd", None)
    if version < (1, 44):
        for runtime in document.get("Runtimes", {}).values():
            runtime.pop("status", None)
        document.pop("CDISpecDirs", None)
    return document


def disk_usage(document: dict[str, Any], version: Version) -> dict[str, Any]:
    if version < (1, 42):
        document.setdefault("BuilderSize", 0)
    return document
