"""Read-only layers by chain id: registered whole or not at all, removed with their last user.

A layer's users are the images whose top it is, the layers on it, the containers on it, and whoever is
at work with it (a load). They are counted in memory and recounted at start-up, so a crash loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from reexec.archive import split
from reexec.helpers.adoptlayer import AdoptLayer
from reexec.helpers.applylayer import Applied, ApplyLayer
from reexec.helpers.changes import Changes
from reexec.helpers.save import SavedLayer
from services.engine.graphdrivers import GraphDriver
from services.engine.helpers import Helpers, ask, document
from services.engine.layers.model import NO_LAYER, Layer, chain_id
from services.engine.scopes import KeyedLocks, Undo, checkpoint, settled
from services.engine.store import Store
from services.protocol.errors import SystemError_

log = logging.getLogger(__name__)


class Chains:
    """*kick* is called when something has been discarded."""

    def __init__(
        self,
        store: Store,
        driver: GraphDriver,
        helpers: Helpers,
        data_root: Path,
        kick: Callable[[], None],
    ) -> None:
        self._kick = kick
        #: What is left of the archives beside their files, by cache id.
        self.splits = data_root / "image" / driver.name / "layerdb"
        self.splits.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = store
        self._driver = driver
        self._helpers = helpers
        #: By chain id, for who registers a chain.
        self.locks = KeyedLocks()
        self._users: Counter[str] = Counter()
        self._layers: dict[str, Layer] = {}
        #: Layer directories being filled.
        self._in_progress: set[str] = set()
        for row in store.load("SELECT chain_id, parent, diff_id, cache_id, size FROM layers"):
            layer = Layer(*row)
            self._layers[layer.chain_id] = layer
            if layer.parent:
                self._users[layer.parent] += 1

    def __contains__(self, chain: str) -> bool:
        return chain in self._layers

    def get(self, chain: str) -> Layer:
        """Raises :class:`SystemError_` if it is not registered."""
        try:
            return self._layers[chain]
        except KeyError:
            raise SystemError_(f"layer does not exist: {chain}") from None

    def cache_id(self, chain: str) -> str:
        return self.get(chain).cache_id if chain else NO_LAYER

    def directories(self) -> set[str]:
        """The graph driver's ids of all registered layers and of those being made."""
        return {layer.cache_id for layer in self._layers.values()} | self._in_progress

    def lineage(self, chain: str) -> list[Layer]:
        """The layers of a chain, top first."""
        found: list[Layer] = []
        while chain:
            layer = self.get(chain)
            found.append(layer)
            chain = layer.parent
        return found

    def total_size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self._layers.values())

    def users(self, chain: str) -> int:
        return self._users[chain]

    def retain(self, chain: str) -> None:
        """One more user of *chain*; "" is nothing."""
        if chain:
            self.get(chain)
            self._users[chain] += 1

    async def release(self, chain: str) -> list[Layer]:
        """One user less; returns the layers that went with the last one, top first.

        To its end although the caller is cancelled: the layers below would be kept for nobody.
        """
        removed: list[Layer] = []
        while chain:
            self._users[chain] -= 1
            if self._users[chain] > 0:
                break
            del self._users[chain]
            layer = self._layers.pop(chain)
            await self._store.execute("DELETE FROM layers WHERE chain_id=?", chain)
            self._driver.discard(layer.cache_id + "-init")
            await self.abandon(layer.cache_id)
            removed.append(layer)
            chain = layer.parent
        return removed

    async def release_unused(self) -> None:
        """Remove layers without users, which a crash has left."""
        for chain in list(self._layers):
            if chain in self._layers and not self._users[chain]:
                self._users[chain] += 1
                await self.release(chain)
        known = self.directories()
        for path in self.splits.iterdir():
            if path.stem not in known:
                await self._remove_split(path.stem)

    async def _remove_split(self, cache_id: str) -> None:
        path = str(self.split(cache_id))
        await settled(asyncio.to_thread(split.remove, path))

    def split(self, cache_id: str) -> Path:
        """Where the split of a layer is."""
        return self.splits / f"{cache_id}.split"

    def saved(self, chain: str) -> tuple[SavedLayer, int]:
        """How to put the archive of a layer together again, and its size in bytes.

        Raises :class:`SystemError_` for a layer whose split is lost.
        """
        layer = self.get(chain)
        path = str(self.split(layer.cache_id))
        try:
            size = split.size(path)
        except OSError as error:
            raise SystemError_(f"layer {layer.diff_id} cannot be saved: {error.strerror}") from error
        directory = str(self._driver.extraction(layer.cache_id).directory)
        return SavedLayer(directory, path, layer.diff_id), size

    async def register(self, parent: str, fd: int) -> Layer:
        """The layer of the archive that comes from *fd* on top of *parent*, with the caller as one of its
        users. Raises ``SystemError_`` when it cannot be read.
        """

        async def fill(cache_id: str) -> Applied:
            place = self._driver.extraction(cache_id)
            arguments = ApplyLayer(str(place.directory), place.whiteouts, split=str(self.split(cache_id)))
            return await ask(self._helpers, document("docker-applylayer", arguments), Applied, {"stdin": fd})

        return await self._make(parent, fill)

    async def adopt(self, parent: str, changes: Changes) -> Layer:
        """The layer that a container's *changes* on *parent* are, with the caller as one of its users.

        Their directory is moved: the container is left without. Only for drivers that keep what a
        container changed apart.
        """

        async def fill(cache_id: str) -> Applied:
            directory = str(self._driver.extraction(cache_id).directory)
            arguments = AdoptLayer(changes, directory, str(self.split(cache_id)))
            return await ask(self._helpers, document("docker-adoptlayer", arguments), Applied)

        return await self._make(parent, fill)

    async def _make(self, parent: str, fill: Callable[[str], Awaitable[Applied]]) -> Layer:
        self.retain(parent)
        cache_id = secrets.token_hex(32)
        with self.in_progress(cache_id):
            async with Undo() as undo:
                undo.push(lambda: self.release(parent))
                undo.push(lambda: self.abandon(cache_id))
                await self._driver.create(cache_id, self.cache_id(parent) if parent else "")
                applied = await fill(cache_id)
                chain = chain_id(parent, applied.diff_id)
                async with self.locks.hold(chain):
                    if chain in self._layers:
                        # The same content under another road (an import): the first one stays.
                        self.retain(chain)
                        return self._layers[chain]
                    layer = Layer(chain, parent, applied.diff_id, cache_id, applied.size)
                    await self.insert(layer)
                undo.keep()
                undo.push(lambda: self.release(chain))
                checkpoint()
                undo.keep()
                return layer

    @contextlib.contextmanager
    def in_progress(self, cache_id: str) -> Iterator[None]:
        """No sweep takes *cache_id* for a leftover meanwhile."""
        self._in_progress.add(cache_id)
        try:
            yield
        finally:
            self._in_progress.discard(cache_id)

    async def insert(self, layer: Layer) -> None:
        """Write a layer that is whole to the database, with the caller (who holds its chain's lock and a
        use of its parent for it) as one of its users. A cancelled caller returns from it all the same.
        """
        # Known before it is written, so that nobody else inserts the same chain meanwhile.
        self._layers[layer.chain_id] = layer
        self._users[layer.chain_id] += 1
        try:
            await self._store.execute(
                "INSERT INTO layers VALUES (?, ?, ?, ?, ?)",
                layer.chain_id,
                layer.parent,
                layer.diff_id,
                layer.cache_id,
                layer.size,
            )
        except Exception:
            del self._layers[layer.chain_id], self._users[layer.chain_id]
            raise

    async def abandon(self, cache_id: str) -> None:
        """Remove what there is of a layer that is not registered."""
        self._driver.discard(cache_id)
        self._kick()
        await self._remove_split(cache_id)
