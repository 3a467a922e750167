"""Image documents (``/images``)."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from services.protocol.api.base import Model
from services.protocol.api.containers import GraphDriverData, HealthConfig


class ImageConfig(Model, kw_only=True):
    """``Config`` of an image: what a container takes over from it."""

    user: str = ""
    exposed_ports: dict[str, dict[str, Any]] | UnsetType = UNSET
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str | UnsetType = UNSET
    healthcheck: HealthConfig | UnsetType = UNSET
    args_escaped: bool | UnsetType = UNSET
    on_build: list[str] | None = None
    shell: list[str] | UnsetType = UNSET


class RootFS(Model, kw_only=True):
    type_: str = "layers"
    layers: list[str] | UnsetType = UNSET


class ImageMetadata(Model, kw_only=True):
    last_tag_time: str = "0001-01-01T00:00:00Z"


class ImageInspect(Model, kw_only=True):
    """``GET /images/{name}/json``."""

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    parent: str = ""
    comment: str = ""
    created: str | UnsetType = UNSET
    docker_version: str = ""
    author: str = ""
    config: ImageConfig | None = None
    architecture: str = ""
    variant: str | UnsetType = UNSET
    os: str = ""
    os_version: str | UnsetType = UNSET
    size: int = 0
    graph_driver: GraphDriverData | UnsetType = UNSET
    root_fs: RootFS
    metadata: ImageMetadata


class ImageSummary(Model, kw_only=True):
    """One row of ``GET /images/json``; ``created`` is Unix seconds, sizes are bytes."""

    id: str
    parent_id: str = ""
    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None
    created: int = 0
    size: int = 0
    shared_size: int = -1
    virtual_size: int | UnsetType = UNSET
    labels: dict[str, str] | None = None
    containers: int = -1


class HistoryItem(Model, kw_only=True):
    id: str
    created: int
    created_by: str
    tags: list[str] | None
    size: int
    comment: str


class DeleteItem(Model, kw_only=True):
    untagged: str | UnsetType = UNSET
    deleted: str | UnsetType = UNSET


class ImagePruneReply(Model, kw_only=True):
    images_deleted: list[DeleteItem] | None = None
    space_reclaimed: int = 0
