"""Two stores (where images are made and where they are pulled to), a registry, and a bad road to it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from reexec.distribution.model import Credentials
from services.engine import images as image_package
from services.engine import layers as layer_package
from services.engine import volumes as volume_package
from services.engine.events import Events
from services.engine.images import transferring
from services.engine.images.layerblobs import SCHEMA as LAYER_BLOBS
from services.engine.images.references import parse
from services.engine.images.transfers import Transfers
from services.engine.registry import RegistryClient, platforms
from services.engine.store import Store
from services.protocol.messages import Published
from services.protocol.settings import Settings
from tests.integration.registry.servers import BINARY, Proxy, Registry
from tests.integration.storage.storage import Storage, storage

assert image_package and layer_package and volume_package

NOBODY = Credentials()


def layer(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def archive(tag: str, *layers: bytes, **config: Any) -> bytes:
    """What ``docker load`` takes."""
    diff_ids = ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]
    document = {"architecture": "amd64", "os": "linux", "config": {}, **config}
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    out = io.BytesIO()
    manifest = [{"Config": "c.json", "RepoTags": [tag], "Layers": [f"{n}.tar" for n in range(len(layers))]}]
    files = {"c.json": json.dumps(document).encode(), "manifest.json": json.dumps(manifest).encode()}
    files |= {f"{number}.tar": data for number, data in enumerate(layers)}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@dataclass
class Place:
    """A store with its transfers; ``settings`` can be replaced at any time."""

    storage: Storage
    transfers: Transfers
    registry: RegistryClient
    settings: Settings
    published: list[Published]

    def events(self) -> list[tuple[str, str, str]]:
        """(action, id, name) of the transfers."""
        found = (item.event for item in self.published)
        return [(event.action, event.actor.id, event.actor.attributes.get("name", "")) for event in found]

    async def pull(
        self, name: str, credentials: Credentials = NOBODY, platform: str = ""
    ) -> list[dict[str, Any]]:
        wanted = platforms.parse(platform) if platform else None
        items = self.transfers.puller.pull(parse(name), wanted, credentials)
        return [msgspec.json.decode(item) async for item in items]

    async def push(self, name: str, credentials: Credentials = NOBODY) -> list[dict[str, Any]]:
        items = self.transfers.pusher.push(parse(name), credentials)
        return [msgspec.json.decode(item) async for item in items]

    async def remove(self, name: str) -> None:
        await self.storage.images.remove(name, force=True, prune=True)

    def leftovers(self) -> list[str]:
        """Files of transfers that are not there any more."""
        temporary = self.storage.root / "tmp"
        return [path.name for path in temporary.iterdir() if path.name.startswith(("pull-", "push-"))]


@contextlib.asynccontextmanager
async def place(root: Path) -> AsyncIterator[Place]:
    async with storage(root) as made:
        store = Store(root / "transfers.db", (layer_package.SCHEMA, LAYER_BLOBS))
        published: list[Published] = []
        holder: list[Place] = []
        registry = RegistryClient(made.helpers, lambda: holder[0].settings)
        transfers = Transfers(
            made.images.store,
            made.layers,
            Events(published.append),
            registry,
            store,
            root,
            lambda: holder[0].settings,
        )
        holder.append(Place(made, transfers, registry, Settings(), published))
        try:
            yield holder[0]
        finally:
            await transfers.close()
            store.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(transferring, "RETRY_DELAY", 0)


@pytest.fixture(scope="session")
def needs_registry() -> None:
    if BINARY is None:
        pytest.skip("there is no docker-registry")


@pytest.fixture
def registry(tmp_path: Path, needs_registry: None) -> Iterator[Registry]:
    root = tmp_path / "registry"
    root.mkdir()
    made = Registry(root)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def proxy(registry: Registry) -> Iterator[Proxy]:
    made = Proxy(registry)
    try:
        yield made
    finally:
        made.close()
