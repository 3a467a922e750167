"""The engine's storage on a directory of its own, without a daemon."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from services.engine import images, layers, volumes
from services.engine.contracts import ContainerUse
from services.engine.events import Events
from services.engine.graphdrivers import choose
from services.engine.images import ImageManager
from services.engine.images.layerblobs import SCHEMA as LAYER_BLOBS
from services.engine.layers import LayerManager
from services.engine.store import Store
from services.engine.volumes import VolumeManager
from services.protocol.messages import Published
from services.protocol.verbs.images import ImportArgs
from tests.suites.forked import ForkedHelpers


class Storage:
    """Made by :func:`storage`; ``containers`` is what the managers take for all containers."""

    def __init__(self, root: Path, driver: str) -> None:
        self.root = root
        self.helpers = self.make_helpers()
        self.containers: list[ContainerUse] = []
        self.published: list[tuple[str, str, str]] = []
        schemas = (layers.SCHEMA, images.SCHEMA, LAYER_BLOBS, volumes.SCHEMA)
        self.store = Store(root / "engine.db", schemas)
        events = Events(self._published)
        graph = choose(root, driver, [], self.helpers)
        self.layers = LayerManager(self.store, graph, self.helpers, root)
        self.images = ImageManager(
            self.store, self.layers, events, self.helpers, root, lambda: self.containers
        )
        self.volumes = VolumeManager(self.store, events, root, lambda: self.containers)

    def make_helpers(self) -> ForkedHelpers:
        return ForkedHelpers()

    def _published(self, published: Published) -> None:
        event = published.event
        self.published.append((event.type_, event.action, event.actor.attributes.get("name", "")))

    async def load(self, archive: bytes, *, quiet: bool = True) -> list[dict[str, object]]:
        """What ``docker load`` prints."""
        with tempfile.TemporaryFile() as file:
            file.write(archive)
            file.seek(0)
            items = self.images.load(file.fileno(), quiet=quiet, platform="")
            return [msgspec.json.decode(item) async for item in items]

    async def import_(self, archive: bytes, **arguments: object) -> str:
        """The id of the new image."""
        with tempfile.TemporaryFile() as file:
            file.write(archive)
            file.seek(0)
            items = self.images.import_(file.fileno(), ImportArgs(**arguments))  # type: ignore[arg-type]
            return [msgspec.json.decode(item)["status"] async for item in items][0]

    def use(
        self, container: str, image: str = "", *, running: bool = False, uses: tuple[str, ...] = ()
    ) -> None:
        """Add a container."""
        image_id = self.images.resolve(image).id if image else ""
        self.containers.append(
            ContainerUse(
                id=container,
                name=container[:4],
                running=running,
                image_id=image_id,
                image_name=image,
                volumes=list(uses),
                networks=[],
            )
        )

    def names(self) -> list[str]:
        """``docker images``, sorted."""
        found = self.images.summaries(all=False, filters={}, shared_size=False)
        return sorted(tag for summary in found for tag in summary.repo_tags or ["<none>:<none>"])

    def image_ids(self) -> list[str]:
        """``docker images --quiet --no-trunc``."""
        return [summary.id for summary in self.images.summaries(all=False, filters={}, shared_size=False)]

    def layer_directories(self) -> set[str]:
        return self.layers.driver.layers()


@contextlib.asynccontextmanager
async def storage(root: Path, driver: str = "overlay2") -> AsyncIterator[Storage]:
    """Storage that has gone through the start-up sweep; opening it again is a restart."""
    root.mkdir(exist_ok=True)
    made = Storage(root, driver)
    try:
        await made.layers.sweep({use.id for use in made.containers})
        yield made
    finally:
        await asyncio.sleep(0)
        await made.layers.close()
        made.store.close()
