"""``/system/df``: what images, containers, volumes and the build cache take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.engine.containers import listing
from services.engine.containers.services import Services
from services.protocol.api.system import BuildCacheRecord, DiskUsage
from services.protocol.errors import InvalidParameter
from services.protocol.verbs.containers import ListArgs

#: What the builder has that is not an image's.
BuildCacheList = Callable[[], Awaitable[list[BuildCacheRecord]]]

_TYPES = ("container", "image", "volume", "build-cache")


async def disk_usage(services: Services, build_cache: BuildCacheList, types: list[str]) -> DiskUsage:
    """Only the asked *types* (all when empty); raises ``InvalidParameter`` for an unknown one."""
    for kind in types:
        if kind not in _TYPES:
            raise InvalidParameter(f"unknown object type: {kind}")
    wanted = types or _TYPES
    usage = DiskUsage()
    if "image" in wanted:
        usage.images = await services.images.usage()
        usage.layers_size = await services.layers.total_size()
    if "container" in wanted:
        usage.containers = await listing.list_containers(services, ListArgs(all=True, size=True))
    if "volume" in wanted:
        usage.volumes = await services.volumes.usage()
    if "build-cache" in wanted:
        usage.build_cache = await build_cache()
    return usage
