"""Volume documents (``/volumes``)."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from services.protocol.api.base import Model


class VolumeUsage(Model, kw_only=True):
    size: int = -1
    ref_count: int = -1


class Volume(Model, kw_only=True):
    created_at: str | UnsetType = UNSET
    driver: str
    labels: dict[str, str] | None
    mountpoint: str
    name: str
    options: dict[str, str] | None
    scope: str = "local"
    status: dict[str, Any] | UnsetType = UNSET
    usage_data: VolumeUsage | UnsetType = UNSET


class VolumeCreateRequest(Model, kw_only=True):
    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    #: Makes it a volume of a swarm's.
    cluster_volume_spec: dict[str, Any] | None = None


class VolumeList(Model, kw_only=True):
    volumes: list[Volume] | None
    warnings: list[str] | None = None


class VolumePruneReply(Model, kw_only=True):
    volumes_deleted: list[str] | None = None
    space_reclaimed: int = 0
