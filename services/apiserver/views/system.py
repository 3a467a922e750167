"""System documents as older API versions show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Version = tuple[int, int]


def info(document: dict[str, Any], version: Version) -> dict[str, Any]:
    """Source: moby ``daemon/server/router/system``."""
    if version < (1, 50):
        document.update(BridgeNfIptables=False, BridgeNfIp6tables=False)
    if version < (1, 49):
        document.pop("FirewallBackend", None)
        for commit in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            document[commit]["Expected"] = document[commit]["ID"]
    if version < (1, 47):
        document["RegistryConfig"].update(
            AllowNondistributableArtifactsCIDRs=None, AllowNondistributableArtifactsHostnames=None
        )
    if version < (1, 46):
        document.pop("Containerd", None)
    if version < (1, 44):
        for runtime in document.get("Runtimes", {}).values():
            runtime.pop("status", None)
    return document


def disk_usage(document: dict[str, Any], version: Version, *, verbose: bool) -> dict[str, Any]:
    """From 1.53 sums per kind of object, with the objects if *verbose*; 1.52 shows both forms."""
    cache = document.get("BuildCache") or []
    if version < (1, 42):
        document.setdefault("BuilderSize", sum(record["Size"] for record in cache))
        for record in cache:
            record["Parent"] = next(iter(record.pop("Parents")), "")
    if version < (1, 52):
        return document
    sums = {
        "ImageUsage": _images(document.get("Images"), document.get("LayersSize", 0)),
        "ContainerUsage": _containers(document.get("Containers")),
        "VolumeUsage": _volumes(document.get("Volumes")),
        "BuildCacheUsage": _sum(
            document.get("BuildCache"), lambda record: record["InUse"], lambda record: record["Size"]
        ),
    }
    shown = {name: usage for name, usage in sums.items() if usage is not None}
    if not verbose:
        for usage in shown.values():
            usage.pop("Items", None)
    return {**document, **shown} if version < (1, 53) else shown


def _sum(
    items: list[dict[str, Any]] | None,
    active: Callable[[dict[str, Any]], bool],
    size: Callable[[dict[str, Any]], int],
) -> dict[str, Any] | None:
    """None for a kind that was not asked for."""
    if items is None:
        return None
    return {
        "ActiveCount": sum(1 for item in items if active(item)),
        "TotalCount": len(items),
        "Reclaimable": sum(size(item) for item in items if not active(item)),
        "TotalSize": sum(size(item) for item in items),
        "Items": items,
    }


def _images(images: list[dict[str, Any]] | None, layers_size: int) -> dict[str, Any] | None:
    """Layers are shared: what is not reclaimable is what the used images take."""
    usage = _sum(images, lambda image: image["Containers"] > 0, lambda image: max(image["Size"], 0))
    if usage is not None and images is not None:
        used = sum(image["Size"] - max(image["SharedSize"], 0) for image in images if image["Containers"] > 0)
        usage.update(TotalSize=layers_size, Reclaimable=max(layers_size - used, 0))
    return usage


def _containers(containers: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    running = ("running", "paused", "restarting")
    return _sum(containers, lambda item: item["State"] in running, lambda item: item.get("SizeRw", 0))


def _volumes(volumes: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    def data(item: dict[str, Any]) -> dict[str, int]:
        return item.get("UsageData") or {"Size": 0, "RefCount": 0}

    return _sum(volumes, lambda item: data(item)["RefCount"] > 0, lambda item: max(data(item)["Size"], 0))
