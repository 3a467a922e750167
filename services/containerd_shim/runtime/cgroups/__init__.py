"""Control groups: one manager per kind of hierarchy, chosen by what the host has mounted."""

from __future__ import annotations

from services.containerd_shim.runtime.cgroups.base import CgroupManager, clean_path
from services.containerd_shim.runtime.cgroups.hierarchies import Hierarchies, detect
from services.containerd_shim.runtime.cgroups.v1 import V1Manager
from services.containerd_shim.runtime.cgroups.v2 import V2Manager
from services.protocol.errors import Unavailable

_detected: Hierarchies | None = None


def manager(cgroups_path: str, container_id: str) -> CgroupManager:
    """The manager of the cgroup *cgroups_path* (``/docker/<id>``); nothing is made yet."""
    global _detected
    if _detected is None:
        _detected = detect()
    path = clean_path(cgroups_path, container_id)
    if _detected.version == 1:
        return V1Manager(_detected.v1, path)
    if _detected.v2 is None:
        raise Unavailable("no cgroup hierarchy is mounted")
    return V2Manager(_detected.v2, path)
