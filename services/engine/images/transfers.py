"""What moves images between here and registries: one puller and one pusher over the same store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from services.engine.events import Events
from services.engine.images.layerblobs import LayerBlobs
from services.engine.images.pulling import Puller
from services.engine.images.pushing import Pusher
from services.engine.images.store import ImageStore
from services.engine.images.transferring import Context
from services.engine.layers import LayerManager
from services.engine.registry import RegistryClient
from services.engine.scopes import Background
from services.engine.store import Store
from services.protocol.settings import Settings


class Transfers:
    def __init__(
        self,
        images: ImageStore,
        layers: LayerManager,
        events: Events,
        registry: RegistryClient,
        store: Store,
        data_root: Path,
        settings: Callable[[], Settings],
    ) -> None:
        self._background = Background("transfers")
        blobs = LayerBlobs(store, layers)
        context = Context(images, layers, blobs, events, registry, self._background, data_root, settings)
        self.pusher = Pusher(context)
        self.puller = Puller(context)

    async def close(self) -> None:
        await self._background.close()
