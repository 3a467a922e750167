"""The documents of one image: inspect and history."""

from __future__ import annotations

from msgspec import UNSET

from services.engine.images.model import Record, unix_time
from services.engine.images.store import ImageStore
from services.engine.images.timestamps import rfc3339
from services.engine.layers import LayerManager
from services.protocol.api.containers import Config
from services.protocol.api.images import (
    HistoryItem,
    ImageConfig,
    ImageInspect,
    ImageMetadata,
    RootFS,
)
from services.protocol.errors import SystemError_


def image_config(config: Config) -> ImageConfig:
    """The part of a container's configuration that an image has."""
    values = {name: getattr(config, name) for name in ImageConfig.__struct_fields__}
    if values["on_build"] is UNSET:
        values["on_build"] = None
    return ImageConfig(**values)


def inspect(record: Record, store: ImageStore, layers: LayerManager, size: int) -> ImageInspect:
    config = record.config
    references = store.references(record.id)
    return ImageInspect(
        id=record.id,
        repo_tags=[r.familiar for r in references if not r.digest],
        repo_digests=[r.familiar for r in references if r.digest],
        parent=record.parent,
        comment=config.comment or (config.history[-1].comment if config.history else ""),
        created=config.created or UNSET,
        docker_version=config.docker_version,
        author=config.author,
        config=image_config(record.container_config),
        architecture=config.architecture,
        variant=config.variant or UNSET,
        os=config.os or "linux",
        os_version=config.os_version or UNSET,
        size=size,
        graph_driver=layers.image_graph_driver(record.chain_id),
        root_fs=RootFS(type_=config.rootfs.type, layers=list(config.rootfs.diff_ids) or UNSET),
        metadata=ImageMetadata(last_tag_time=rfc3339(record.last_tagged)),
    )


def history(record: Record, store: ImageStore, layers: LayerManager) -> list[HistoryItem]:
    """The newest step first; ids only of steps that are images here."""
    lineage = layers.chains.lineage(record.chain_id)[::-1]
    items: list[HistoryItem] = []
    used = 0
    for step in record.config.history:
        size = 0
        if not step.empty_layer:
            if used >= len(lineage):
                raise SystemError_("too many non-empty layers in History section")
            size = lineage[used].size
            used += 1
        created = int(unix_time(step.created)) if step.created else 0
        items.append(
            HistoryItem(
                id="<missing>",
                created=created,
                created_by=step.created_by,
                tags=None,
                size=size,
                comment=step.comment,
            )
        )
    items.reverse()
    image: Record | None = record
    for item in items:
        if image is None:
            break
        item.id = image.id
        item.tags = [r.familiar for r in store.references(image.id) if not r.digest] or None
        image = store.by_id(image.parent) if image.parent else None
    return items


__all__ = ["history", "image_config", "inspect"]
