"""The layer service: containers' read-write layers over images' chains.

A container's layer is a directory of the graph driver under the container's id, on an *init layer* that
is made once per image. Creating one makes a few directories; nothing is mounted on the host.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import posixpath
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import msgspec

from reexec.archive.rootfs import MountSpec, RootSpec
from reexec.helpers.changes import Changes
from reexec.helpers.copyup import CopiedUp, CopyUp
from reexec.helpers.mkdir import MakeDirectory
from reexec.helpers.stat import Found, Stat
from reexec.helpers.tar import Tar
from reexec.helpers.untar import Untar
from services.engine.graphdrivers import GraphDriver
from services.engine.helpers import Helpers, ask, document
from services.engine.layers.chains import Chains
from services.engine.layers.making import Maker
from services.engine.layers.model import NO_LAYER, Layer
from services.engine.layers.trash import Trash
from services.engine.scopes import Background, KeyedLocks, Undo, settled
from services.engine.store import Store
from services.protocol import task_pb2 as pb
from services.protocol.api.containers import GraphDriverData
from services.protocol.errors import SystemError_
from services.protocol.fdpass import Handover

log = logging.getLogger(__name__)


def _log_failure(future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("a layer was not written to the database", exc_info=error)


@contextlib.contextmanager
def _reported(layer: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.error("what is left of layer %s cannot be removed: %s", layer, error)


class LayerManager:
    """Implements ``services.engine.contracts.LayerService``; ``chains`` and ``maker`` are for images.

    Order at start-up: construct, let the images retain their chains, then :meth:`sweep`.
    """

    def __init__(self, store: Store, driver: GraphDriver, helpers: Helpers, data_root: Path) -> None:
        self.driver_name = driver.name
        self.driver = driver
        self._store = store
        self._helpers = helpers
        self._background = Background("layers")
        self._trash = Trash(driver.trash, helpers, self._background)
        self.chains = Chains(store, driver, helpers, data_root, self._trash.kick)
        self.maker = Maker(self.chains, driver, helpers, self._background, self.release, self._trash.kick)
        self._locks = KeyedLocks()
        #: Mount point for helpers, each in its own mount namespace.
        self._mount_point = data_root / "tmp" / "root"
        self._mount_point.mkdir(mode=0o700, parents=True, exist_ok=True)
        #: Container -> chain.
        self._containers: dict[str, str] = {}
        for container_id, chain in store.load("SELECT container_id, chain_id FROM rw_layers"):
            try:
                self.chains.retain(chain)
            except SystemError_ as error:
                log.error("container %s cannot be started: %s", container_id, error)
                continue
            self._containers[container_id] = chain
        self._inits = {name for name in driver.layers() if name.endswith("-init")}
        #: (chain, path) of directories that an image is known to have.
        self._directories: set[tuple[str, str]] = set()

    def driver_status(self) -> list[list[str]]:
        return [list(pair) for pair in self.driver.status()]

    async def total_size(self) -> int:
        return self.chains.total_size()

    async def close(self) -> None:
        await self._background.close()

    async def create(self, container_id: str, chain_id: str, storage_opt: Mapping[str, str]) -> None:
        if container_id in self._containers:
            return
        self.chains.retain(chain_id)
        async with Undo() as undo:
            undo.push(lambda: self.chains.release(chain_id))
            parent = await self._init_layer(chain_id)
            undo.push(lambda: self._discard(container_id))
            await self.driver.create_read_write(container_id, parent, storage_opt)
            self._containers[container_id] = chain_id
            undo.keep()
        # Not awaited: it says nothing until the container's own row, which is queued behind it.
        self._submit("INSERT OR REPLACE INTO rw_layers VALUES (?, ?)", container_id, chain_id)

    async def _discard(self, layer: str) -> None:
        self.driver.discard(layer)
        self._trash.kick()

    def _submit(self, sql: str, *parameters: object) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute(sql, parameters)

        future = self._store.submit(write)
        future.add_done_callback(_log_failure)

    async def _init_layer(self, chain: str) -> str:
        """The init layer of *chain*, made at its first use."""
        base = self.chains.cache_id(chain)
        name = base + "-init"
        if name in self._inits:
            return name
        async with self._locks.hold(name):
            if name not in self._inits:
                # Filled under another name: what has the name is complete.
                fresh, parent = base + "-new-init", base if chain else ""
                async with Undo() as undo:
                    undo.push(lambda: self._discard(fresh))
                    await self.driver.create(fresh, parent)
                    root = self._root_spec(self.driver.mounts(fresh, parent))
                    await self._helpers.run(document("docker-initlayer", root), private_mounts=True)
                    self.driver.rename(fresh, name)
                    undo.keep()
                self._inits.add(name)
        return name

    def _root_spec(self, mounts: list[pb.Mount]) -> RootSpec:
        specs = [
            MountSpec(type=m.type, source=m.source, target=m.target, options=list(m.options)) for m in mounts
        ]
        return RootSpec(directory=str(self._mount_point), mounts=specs)

    def _chain(self, container_id: str) -> str:
        try:
            return self._containers[container_id]
        except KeyError:
            raise SystemError_(f"container {container_id} has no read-write layer") from None

    def _parent(self, container_id: str) -> str:
        return self.chains.cache_id(self._chain(container_id)) + "-init"

    def mounts(self, container_id: str) -> list[pb.Mount]:
        return self.driver.mounts(container_id, self._parent(container_id))

    def root(self, container_id: str, mounts: Sequence[MountSpec] = (), *, reading: bool = False) -> RootSpec:
        """A stopped container's root file system, with *mounts* inside it, for a helper to enter.

        Only with *reading* may the container be started meanwhile: of two overlays that are mounted with
        one work directory at the same moment, one fails or is read-only (``ovl_workdir_create``).
        """
        spec = self._root_spec(self.mounts(container_id))
        (whole,) = spec.mounts
        if not reading or whole.type != "overlay":
            return RootSpec(directory=spec.directory, mounts=[whole, *mounts])
        seen = self._root_spec(
            self.driver.mounts(container_id, self._parent(container_id), read_only=True)
        ).mounts
        return RootSpec(directory=spec.directory, mounts=[*seen, *mounts], writable=whole)

    def image_root(self, chain: str) -> RootSpec:
        """An image's tree, read-only, for a helper to enter."""
        lineage = self.chains.lineage(chain)
        parent = lineage[1].cache_id if len(lineage) > 1 else ""
        return self._root_spec(self.driver.mounts(lineage[0].cache_id, parent, read_only=True))

    def upper(self, container_id: str) -> str:
        """The directory of what a container changed, "" where the graph driver keeps none."""
        return str(self.driver.difference(container_id) or "")

    async def remove(self, container_id: str) -> None:
        # Known until its directory has gone: a removal that fails is repeated as a whole.
        await self._discard(container_id)
        # Also where the image's layers are lost, and the container's was not taken up.
        self._submit("DELETE FROM rw_layers WHERE container_id=?", container_id)
        chain = self._containers.pop(container_id, None)
        if chain is not None:
            await self.release(chain)

    def retain(self, chain: str) -> None:
        self.chains.retain(chain)

    async def free(self, chain: str) -> None:
        await self.release(chain)

    async def release(self, chain: str) -> list[Layer]:
        """See :meth:`Chains.release`; frees what it removed."""
        removed = await self.chains.release(chain)
        if removed:
            self._inits -= {layer.cache_id + "-init" for layer in removed}
            self._directories = {item for item in self._directories if item[0] in self.chains}
            self._trash.kick()
        return removed

    async def sizes(self, container_id: str) -> tuple[int, int]:
        chain = self._chain(container_id)
        image = sum(layer.size for layer in self.chains.lineage(chain))
        if (directory := self.driver.difference(container_id)) is not None:
            own = await ask(self._helpers, ["docker-size", str(directory)], int)
            return own, image + own
        # The driver cannot tell what changed: the difference to the tree it was copied from.
        parent = self.driver.mounts(self._parent(container_id), "")
        trees = [mount.source for mount in (*self.mounts(container_id), *parent)]
        whole, before = [await ask(self._helpers, ["docker-size", tree], int) for tree in trees]
        return max(0, whole - before), whole

    def graph_driver(self, container_id: str) -> GraphDriverData:
        data = self.driver.data(container_id, self._parent(container_id))
        if data:
            data = {"ID": container_id, **data}
        return GraphDriverData(name=self.driver.name, data=data or None)

    def image_graph_driver(self, chain: str) -> GraphDriverData:
        """``GraphDriver`` of an image whose top layer is *chain*."""
        if not chain:
            return GraphDriverData(name=self.driver.name, data=None)
        lineage = self.chains.lineage(chain)
        parent = lineage[1].cache_id if len(lineage) > 1 else ""
        return GraphDriverData(
            name=self.driver.name, data=self.driver.data(lineage[0].cache_id, parent) or None
        )

    async def make_directory(self, container_id: str, path: str, *, mode: int = 0o755) -> None:
        """Make *path* and what is missing above it in the container's root, owned by root.

        Raises ``SystemError_`` ("Cannot mkdir: /etc/passwd is not a directory").
        """
        path = posixpath.normpath("/" + path.lstrip("/"))
        known = (self._chain(container_id), path)
        if path == "/" or known in self._directories:
            return
        arguments = MakeDirectory(root=self.root(container_id), path=path, mode=mode)
        if not await ask(self._helpers, document("docker-mkdir", arguments), bool):
            self._directories.add(known)

    async def copy_up(self, container_id: str, path: str, target: str) -> CopiedUp:
        """Copy what the container has at *path* into the empty host directory *target*."""
        arguments = CopyUp(root=self.root(container_id), path=path, target=target)
        return await ask(self._helpers, document("docker-copyup", arguments), CopiedUp)

    async def changes(self, container_id: str) -> list[tuple[int, str]]:
        """(kind, path) of what the container changed, sorted by path."""
        arguments = self._changes(container_id)
        # More than a message can hold, for a container that changed a lot.
        index = os.memfd_create("changes", os.MFD_CLOEXEC)
        try:
            await self._helpers.run(document("docker-changes", arguments), {"index": index})
            data = os.pread(index, os.fstat(index).st_size, 0)
        finally:
            os.close(index)
        return msgspec.msgpack.decode(data, type=list[tuple[int, str]])

    def _changes(self, container_id: str, newest: int | None = None) -> Changes:
        init, chain = self._parent(container_id), self._chain(container_id)
        parent = self.chains.cache_id(chain) if chain else ""
        lower = self._root_spec(self.driver.mounts(init, parent, read_only=True))
        upper = self.driver.difference(container_id)
        where = str(upper or self.mounts(container_id)[0].source)
        return Changes(lower=lower, upper=where, whole=upper is None, newest=newest)

    async def take(self, container_id: str, newest: int | None = None) -> Layer:
        """As :meth:`commit`, for a container that nobody will look at again: its changes may be moved
        rather than copied. Nothing in the layer is newer than *newest* (Unix seconds), if that is given.
        """
        changes = self._changes(container_id, newest)
        if not changes.whole:
            return await self.chains.adopt(self._chain(container_id), changes)
        return await self.difference(self._chain(container_id), changes)

    async def commit(self, container_id: str, newest: int | None = None) -> Layer:
        """What the container changed as a layer on its image's, with the caller as a user of it."""
        return await self.difference(self._chain(container_id), self._changes(container_id, newest))

    async def difference(self, chain: str, changes: Changes) -> Layer:
        """*changes* as a layer on *chain*, with the caller as a user of it."""
        argv = document("docker-difference", changes)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        pack = self._background.spawn(self._pack(argv, writing), name="commit")
        try:
            layer = await self.chains.register(chain, reading)
        finally:
            # Whoever still writes learns from it that nobody reads.
            os.close(reading)
            # Cancelled or not: the caller gets the layer, and gives it back.
            packed = (await settled(asyncio.gather(pack, return_exceptions=True)))[0]
        if isinstance(packed, BaseException):
            await self.release(layer.chain_id)
            raise packed
        return layer

    async def _pack(self, argv: list[str], writing: int) -> None:
        try:
            await self._helpers.run(argv, {"stdout": writing})
        finally:
            os.close(writing)

    async def path_stat(self, root: RootSpec, path: str) -> Found | None:
        found = await ask(self._helpers, document("docker-stat", Stat(root, path)), list[Found])
        return found[0] if found else None

    def tar(self, arguments: Tar) -> Handover:
        return self._helpers.handover(document("docker-tar", arguments))

    async def untar(self, arguments: Untar, fd: int) -> None:
        await self._helpers.run(document("docker-untar", arguments), {"stdin": fd})

    async def sweep(self, known: set[str]) -> None:
        """Remove what belongs to no layer, and to none of the containers *known*. What cannot be removed does
        not keep the rest, nor the engine."""
        for container_id in set(self._containers) - known:
            with _reported(container_id):
                await self.remove(container_id)
        await self.chains.release_unused()
        bases = self.chains.directories()
        # What belongs to a known container stays even where its image is lost: it is the user's work.
        keep = bases | known | set(self._containers) | {f"{base}-init" for base in (*bases, NO_LAYER)}
        for layer in await asyncio.to_thread(self.driver.layers):
            if layer not in keep:
                with _reported(layer):
                    self.driver.discard(layer)
        self._trash.kick()
