"""Layers of an image made side by side: extracted in any order, registered from the lowest up.

Extracting a layer needs none of the layers below it where the graph driver keeps a layer's changes alone
(overlay2): it goes into a *staged* directory, as many at once as there are processors. When the layer
below has its final directory, so gets this one, on top of it. Then both are synced, then the lower one is
written to the database, then this one: what is in the database is whole. Drivers whose layers begin as
copies of what is below (vfs, btrfs) extract one layer after the other.

Whoever wants the same layer from the same origin joins the work; it ends early with the last of them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from reexec.archive.extract import Whiteouts
from reexec.helpers.applylayer import Applied, ApplyLayer
from services.engine.graphdrivers import GraphDriver
from services.engine.helpers import Helpers, ask, document
from services.engine.layers.chains import Chains
from services.engine.layers.model import Layer, chain_id
from services.engine.layers.syncs import Syncs
from services.engine.scopes import Background, Undo, shielded


class Source(Protocol):
    """Where a layer's archive comes from."""

    #: Of the archive as it is stored, checked unless "".
    digest: str

    async def ready(self) -> None:
        """Waits until it is all there. Raises what is to be told of it."""

    def opened(self) -> AbstractAsyncContextManager[int]:
        """A descriptor of it, for as long as it is extracted."""

    async def leave(self) -> None:
        """It is not needed any more; called once."""


S = TypeVar("S", bound=Source)


class Making(Generic[S]):
    """One layer being made. Everyone who has it from :meth:`Maker.join` gives it back."""

    def __init__(self, key: tuple[str, str], diff_id: str, below: Making[Any] | str, source: S) -> None:
        self.chain, self.origin = key
        self.diff_id = diff_id
        self.below = below
        self.source = source
        self.users = 0
        self._source_left = False
        self.task: asyncio.Task[Layer]
        #: The graph driver's final id, known when the layer has it.
        self.placed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        #: The chain that the task holds, if it holds one: also when it was cancelled right after that.
        self.held = ""

    async def wait(self) -> Layer:
        """The registered layer, which stays at least until this is given back."""
        return await asyncio.shield(self.task)

    async def leave_source(self) -> None:
        """As soon as the layer is made, and in any case in the end."""
        if not self._source_left:
            self._source_left = True
            await self.source.leave()

    async def place(self) -> str:
        """The final id of the layer; raises what the making has failed with."""
        first: set[asyncio.Future[Any]] = {self.placed, self.task}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        return self.placed.result() if self.placed.done() else self.task.result().cache_id


class Maker:
    """*release* gives a registered layer back; *kick* is called when something may have been discarded."""

    def __init__(
        self,
        chains: Chains,
        driver: GraphDriver,
        helpers: Helpers,
        background: Background,
        release: Callable[[str], Awaitable[object]],
        kick: Callable[[], None],
    ) -> None:
        self._chains = chains
        self._driver = driver
        self._helpers = helpers
        self._background = background
        self._release = release
        self._kick = kick
        self._syncs = Syncs([driver.trash, chains.splits], background)
        self._joinable: dict[tuple[str, str], Making[Any]] = {}
        self._slots = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        #: Whether a layer's directory holds its changes alone.
        self._apart = driver.extraction("0" * 64).whiteouts is Whiteouts.OVERLAY

    def join(self, below: Making[S] | str, diff_id: str, origin: str, source: Callable[[], S]) -> Making[S]:
        """The layer *diff_id* on *below*: one that is being made (and is the caller's), or a chain id.

        *source* is asked for only where nobody makes the same layer of the same *origin* yet.
        """
        parent = below.chain if isinstance(below, Making) else below
        key = (chain_id(parent, diff_id), origin)
        if (making := self._joinable.get(key)) is None:
            making = Making(key, diff_id, below, source())
            if isinstance(below, Making):
                below.users += 1
            else:
                self._chains.retain(below)
            making.task = self._background.spawn(self._run(making), name="layer", awaited=True)
            self._joinable[key] = making
        making.users += 1
        return making

    async def leave(self, making: Making[Any]) -> None:
        """Give it back; the last to do so ends it, and releases the layer."""
        await shielded(self._leave(making))

    async def _leave(self, making: Making[Any]) -> None:
        making.users -= 1
        if making.users:
            return
        self._forget(making)
        making.task.cancel()
        await asyncio.gather(making.task, return_exceptions=True)
        await making.leave_source()  # if it was cancelled before it began
        await self._release(making.held)
        if isinstance(making.below, Making):
            await self._leave(making.below)
        else:
            await self._release(making.below)

    def _forget(self, making: Making[Any]) -> None:
        key = (making.chain, making.origin)
        if self._joinable.get(key) is making:
            del self._joinable[key]

    async def _run(self, making: Making[Any]) -> Layer:
        try:
            return await self._make(making)
        finally:
            self._forget(making)
            await shielded(making.leave_source())
            if not self._joinable:
                self._kick()

    async def _make(self, making: Making[Any]) -> Layer:
        if making.chain in self._chains:
            return self._existing(making)
        await making.source.ready()
        final = secrets.token_hex(32)
        async with Undo() as undo:
            with self._chains.in_progress(final):
                undo.push(lambda: self._chains.abandon(final))
                if self._apart:
                    return await self._apart_of_parent(making, final, undo)
                parent = await self._below(making)
                async with self._chains.locks.hold(making.chain):
                    if making.chain in self._chains:
                        return self._existing(making)
                    await self._driver.create(final, parent)
                    applied = await self._extract(making, final, final)
                    return await self._register(making, final, applied, undo)

    async def _apart_of_parent(self, making: Making[Any], final: str, undo: Undo) -> Layer:
        staged = secrets.token_hex(32)
        with self._chains.in_progress(staged):
            undo.push(lambda: self._chains.abandon(staged))
            await self._driver.create(staged, "")
            applied = await self._extract(making, staged, final)
            parent = await self._below(making)
            async with self._chains.locks.hold(making.chain):
                if making.chain in self._chains:
                    return self._existing(making)
                await self._driver.create(final, parent)
                old, new = (self._driver.extraction(name).directory for name in (staged, final))
                await asyncio.to_thread(_move, old, new, keep_root=applied.root)
                self._driver.discard(staged)
                return await self._register(making, final, applied, undo)

    def _existing(self, making: Making[Any]) -> Layer:
        self._chains.retain(making.chain)
        making.held = making.chain
        layer = self._chains.get(making.chain)
        making.placed.set_result(layer.cache_id)
        return layer

    async def _below(self, making: Making[Any]) -> str:
        """The final id of the layer below, "" for none."""
        if isinstance(making.below, Making):
            return await making.below.place()
        return self._chains.cache_id(making.below) if making.below else ""

    async def _extract(self, making: Making[Any], where: str, final: str) -> Applied:
        place, split = self._driver.extraction(where), str(self._chains.split(final))
        arguments = ApplyLayer(
            str(place.directory), place.whiteouts, making.diff_id, making.source.digest, split, sync=False
        )
        async with self._slots, making.source.opened() as fd:
            return await ask(self._helpers, document("docker-applylayer", arguments), Applied, {"stdin": fd})

    async def _register(self, making: Making[Any], final: str, applied: Applied, undo: Undo) -> Layer:
        """With the chain's lock: who looks for it in between finds it either not there or whole."""
        making.placed.set_result(final)
        await self._syncs.sync()
        below = making.below
        parent = (await below.wait()).chain_id if isinstance(below, Making) else below
        self._chains.retain(parent)
        undo.push(lambda: self._release(parent))
        layer = Layer(making.chain, parent, applied.diff_id, final, applied.size)
        await self._chains.insert(layer)
        # Cancelled or not: it is there, and released with the making.
        making.held = making.chain
        undo.keep()
        return layer


def _move(old: Path, new: Path, *, keep_root: bool) -> None:
    """The directory *old* in place of the empty one *new*.

    Where the archive says nothing of the root directory, that of the layer below shows, as *new* has it.
    """
    if not keep_root:
        wanted = os.stat(new)
        os.chown(old, wanted.st_uid, wanted.st_gid)
        os.chmod(old, wanted.st_mode & 0o7777)
    os.rename(old, new)


__all__ = ["Maker", "Making", "Source"]
