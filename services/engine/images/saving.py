"""``docker save``: an OCI layout that is a Docker archive as well, as dockerd writes it.

Layers are put together by a helper that writes to the client; only the documents are made here.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from reexec.helpers.save import SavedEntry
from services.engine.helpers import Helpers
from services.engine.images.model import Record
from services.engine.images.notices import Notices
from services.engine.images.references import Reference, is_digest, is_identifier, parse
from services.engine.images.store import ImageStore
from services.engine.images.views import image_config
from services.engine.layers import LayerManager
from services.engine.registry import platforms
from services.protocol.errors import NotFound, SystemError_
from services.protocol.fdpass import Handover

_PREFIX = "save-"
#: Seconds until a plan that no helper has read is removed: its client, the API server or the helper has gone.
PLAN_LIFETIME = 120.0
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"

_json = msgspec.json.encode


@dataclass
class _Layout:
    """The archive being put together: files by name."""

    files: dict[str, SavedEntry] = field(default_factory=dict)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    docker: list[dict[str, Any]] = field(default_factory=list)
    repositories: dict[str, dict[str, str]] = field(default_factory=dict)

    def blob(self, data: bytes, media_type: str, mtime: int) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        self.files[_blob(digest)] = SavedEntry(_blob(digest), data, mtime=mtime)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def entries(self) -> list[SavedEntry]:
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": self.manifests}
        documents = {
            "index.json": _json(index),
            "manifest.json": _json(self.docker) + b"\n",
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        }
        if self.repositories:
            documents["repositories"] = _json(self.repositories) + b"\n"
        directories = [SavedEntry("blobs"), SavedEntry("blobs/sha256")]
        files = {**self.files, **{name: SavedEntry(name, data) for name, data in documents.items()}}
        return [*directories, *(files[name] for name in sorted(files))]


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


class Saver:
    def __init__(
        self, store: ImageStore, layers: LayerManager, helpers: Helpers, notices: Notices, data_root: Path
    ) -> None:
        self._store = store
        self._layers = layers
        self._helpers = helpers
        self._notices = notices
        self._tmp = data_root / "tmp"
        for left in self._tmp.glob(_PREFIX + "*"):
            left.unlink(missing_ok=True)

    def save(self, names: list[str], platform: str = "") -> Handover:
        """Where the client's connection is to be sent. Raises ``NotFound`` and ``InvalidParameter``.

        With *platform*, all of them must be for it.
        """
        layout = _Layout()
        selected = [
            (record, references)
            for image_id, references in self._select(names).items()
            if (record := self._store.by_id(image_id)) is not None
        ]
        saved = {record.id for record, _ in selected}
        for record, references in selected:
            _check(record, platform)
            self._add(layout, record, references)
            if record.parent in saved:
                layout.docker[-1]["Parent"] = record.parent
        for record, _ in selected:
            self._notices.publish("save", record)
        plan = self._tmp / f"{_PREFIX}{secrets.token_hex(8)}"
        fd = os.open(plan, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            asyncio.get_running_loop().call_later(
                PLAN_LIFETIME, functools.partial(plan.unlink, missing_ok=True)
            )
            file.write(msgspec.msgpack.encode(layout.entries()))
        return self._helpers.handover(["docker-save", str(plan)])

    def _select(self, names: list[str]) -> dict[str, list[Reference]]:
        """Images to save, each with the names it is saved under; a name without a tag is all its tags."""
        found: dict[str, list[Reference]] = {}
        for name in names:
            if is_identifier(name) or is_digest(name):
                full = name if is_digest(name) else f"sha256:{name}"
                found.setdefault(self._store.existing(full).id, [])
                continue
            reference = parse(name)
            if reference.familiar_name == "sha256":
                found.setdefault(self._store.get_by_id(name).id, [])
                continue
            if reference.tag or reference.digest:
                image_id = self._store.named(reference)
                if image_id is None:
                    raise NotFound("reference does not exist")
                if reference not in found.setdefault(image_id, []) and not reference.digest:
                    found[image_id].append(reference)
                continue
            self._select_all(name, reference, found)
        return found

    def _select_all(self, name: str, wanted: Reference, found: dict[str, list[Reference]]) -> None:
        """All images of a repository; those that only a digest names are saved without a name."""
        any_found = False
        for record in self._store:
            for reference in self._store.references(record.id):
                if reference.name == wanted.name:
                    any_found = True
                    names = found.setdefault(record.id, [])
                    if reference not in names and not reference.digest:
                        names.append(reference)
        if not any_found:
            found.setdefault(self._store.get_by_id(name).id, [])

    def _add(self, layout: _Layout, record: Record, references: list[Reference]) -> None:
        mtime = max(0, int(record.created))
        chains = [chain.chain_id for chain in reversed(self._layers.chains.lineage(record.chain_id))]
        layers = [self._layer(layout, chain, mtime) for chain in chains]
        # What images were before manifests, one for each layer: still there for who reads "repositories".
        for document in _legacy(record, chains):
            layout.blob(_json(document), _CONFIG, mtime)
        config = layout.blob(self._store.blob(record.id), _CONFIG, mtime)
        manifest = layout.blob(
            _json({"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}),
            _MANIFEST,
            mtime,
        )
        for reference in references:
            annotations = {
                "io.containerd.image.name": str(reference),
                "org.opencontainers.image.ref.name": reference.tag,
            }
            layout.manifests.append({**manifest, "annotations": annotations})
            if layers and reference.tag:
                tags = layout.repositories.setdefault(reference.familiar_name, {})
                tags[reference.tag] = layers[-1]["digest"].removeprefix("sha256:")
        if not references:
            layout.manifests.append(manifest)
        layout.docker.append(
            {
                "Config": _blob(config["digest"]),
                "RepoTags": [reference.familiar for reference in references] or None,
                "Layers": [_blob(layer["digest"]) for layer in layers],
                "LayerSources": {layer["digest"]: layer for layer in layers},
            }
        )

    def _layer(self, layout: _Layout, chain: str, mtime: int) -> dict[str, Any]:
        saved, size = self._layers.chains.saved(chain)
        name = _blob(saved.diff_id)
        layout.files[name] = SavedEntry(name, layer=saved, mtime=mtime)
        return {"mediaType": _LAYER, "digest": saved.diff_id, "size": size}


def _check(record: Record, platform: str) -> None:
    config = record.config
    if not config.rootfs.diff_ids:
        raise SystemError_("empty export - not implemented")
    if not platform:
        return
    wanted = platforms.parse(platform)
    if not platforms.is_for(wanted, config.os, config.architecture, config.variant):
        raise SystemError_(f"no suitable export target found for platform {wanted}")


def _legacy(record: Record, chains: list[str]) -> list[dict[str, Any]]:
    """An image for each layer, the lowest first; all but the topmost are layers and nothing else."""
    ids = [chain.removeprefix("sha256:") for chain in chains[:-1]] + [record.id.removeprefix("sha256:")]
    found: list[dict[str, Any]] = [
        {"id": image_id, "created": "1970-01-01T00:00:00Z", "os": record.config.os} for image_id in ids
    ]
    for document, parent in zip(found[1:], ids, strict=False):
        document["parent"] = parent
    found[-1] |= {
        "created": record.config.created,
        "config": image_config(record.container_config),
        "architecture": record.config.architecture,
    }
    return found
