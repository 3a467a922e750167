"""What is done with images while the engine is killed (``test_crash_points``)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from reexec.distribution.model import Credentials
from services.engine.events import Events
from services.engine.helpers import ZygoteHelpers
from services.engine.images.references import parse
from services.engine.images.transfers import Transfers
from services.engine.registry import RegistryClient
from services.protocol.api.containers import Config
from services.protocol.errors import SystemError_
from services.protocol.paths import ExecRoot
from services.protocol.settings import Settings
from services.protocol.verbs.containers import CommitArgs
from tests.integration.storage.storage import Storage
from tests.suites.trees import directory, entry, image_archive, tar


class Engine(Storage):
    """Storage with transfers, and with a zygote's helpers."""

    def __init__(self, root: Path, driver: str, exec_root: ExecRoot) -> None:
        self._exec_root = exec_root
        super().__init__(root, driver)
        settings = Settings()
        registry = RegistryClient(self.helpers, lambda: settings)
        events = Events(lambda _: None)
        self.transfers = Transfers(
            self.images.store, self.layers, events, registry, self.store, root, lambda: settings
        )

    def make_helpers(self) -> ZygoteHelpers:  # type: ignore[override]
        return ZygoteHelpers(self._exec_root)

    async def pull(self, name: str) -> None:
        async for _ in self.transfers.puller.pull(parse(name), None, Credentials()):
            pass

    async def push(self, name: str) -> None:
        async for _ in self.transfers.pusher.push(parse(name), Credentials()):
            pass

    async def commit(self, container: str, image: str, repo: str) -> None:
        image_id = self.images.resolve(image).id
        await self.images.commit(
            container * 64, image_id, Config(), CommitArgs(container, repo=repo, tag="1")
        )

    async def remove(self, image: str) -> None:
        await self.images.remove(image, force=True, prune=True)

    def state(self) -> dict[str, str]:
        """Image by name, and by id."""
        found = {record.id: record.id for record in self.images.store}
        for record in self.images.store:
            found |= {str(name): record.id for name in self.images.store.references(record.id)}
        return found

    async def settled(self) -> None:
        """What was removed has gone."""
        async with asyncio.timeout(60):
            while os.listdir(self.layers.driver.trash):
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def engine(root: Path, driver: str, exec_root: ExecRoot) -> AsyncIterator[Engine]:
    """One that has started; its containers are the directories below ``containers``."""
    made = Engine(root, driver, exec_root)
    try:
        await made.layers.sweep(set(os.listdir(root / "containers")))
        yield made
    finally:
        await made.transfers.close()
        await made.layers.close()
        made.store.close()


Act = Callable[[Engine], Awaitable[object]]


@dataclass(frozen=True)
class Operation:
    """``act`` is killed in; ``prepare`` comes before it."""

    name: str
    act: Act
    prepare: tuple[Act, ...] = ()
    #: The new image has another id each time.
    fresh: bool = False
    #: What is gone cannot be removed again.
    removes: bool = False


def _layer(number: int) -> bytes:
    """One content in it is replaced by the archive itself."""
    made = [entry(f"{number}/{i}", f"{number} {i}\n".encode() * 50) for i in range(6)]
    return tar(directory(f"{number}"), *made, entry(f"{number}/1", b"again"))


_ONE, _TWO, _THREE, _FOUR = (_layer(number) for number in range(4))
BASE = image_archive([(["base:1", "base:2"], [_ONE, _TWO])])
_OTHER = image_archive([(["other:1", "other:2"], [_ONE, _THREE]), (["more:1"], [_ONE, _THREE, _FOUR])])
_MOVED = image_archive([(["base:1"], [_ONE, _FOUR])])


def pulled(name: str) -> bytes:
    """What the registry has as *name*."""
    return image_archive([([name], [_ONE, _THREE, _FOUR, _layer(0)])])


async def load(s: Engine, archive: bytes) -> None:
    for line in await s.load(archive):
        if "error" in line:
            raise SystemError_(str(line["error"]))


def loads(archive: bytes) -> Act:
    return functools.partial(load, archive=archive)


async def _container(s: Engine, number: str = "c", image: str = "base:1") -> None:
    (s.root / "containers" / (number * 64)).mkdir()
    await s.layers.create(number * 64, s.images.resolve(image).chain_id, {})
    upper = s.layers.upper(number * 64) or s.layers.mounts(number * 64)[0].source
    Path(upper, "changed").write_text("changed")


async def _lineage(s: Engine) -> None:
    """An image without a name between one and its grandchild."""
    await _container(s)
    await s.commit("c", "base:2", "child")
    await _container(s, "b", "child:1")
    await s.commit("b", "child:1", "grandchild")
    await s.images.remove("child:1", force=False, prune=True)


async def _nothing(s: Engine) -> None:
    """Starting is enough."""


async def _prune(s: Engine) -> None:
    await s.images.prune({"dangling": ["false"]})


async def _first_container(s: Engine) -> None:
    await s.layers.create("d" * 64, s.images.resolve("base:1").chain_id, {})
    await s.layers.remove("d" * 64)


async def _plant(s: Engine) -> None:
    """All that a crash can leave, for the next start."""
    await load(s, _OTHER)
    await s.layers.create("f" * 64, s.images.resolve("more:1").chain_id, {})
    names = [name for name in s.state() if "more" in name or "other" in name]
    for name in names:
        await s.store.execute("DELETE FROM image_names WHERE name=?", name)
    for image_id in {s.state()[name] for name in names}:
        await s.store.execute("DELETE FROM images WHERE id=?", image_id)
    for number in range(2):
        await s.layers.driver.create(f"{number:064x}", "")
    home = s.layers.driver.trash.parent
    if s.layers.driver_name == "overlay2":
        (home / f"{0:064x}" / "link").unlink()
        os.symlink("../nowhere/diff", home / "l" / "X")
    (s.root / "tmp" / "load-x").mkdir()
    stored = s.root / "image" / s.layers.driver_name
    for path in (
        s.root / "tmp/load-x/0", s.root / "tmp/save-x", s.root / "tmp/pull-x",
        stored / "imagedb/content/sha256/.x.y", stored / "layerdb/x.split",
    ):  # fmt: skip
        path.write_text("x")
    (stored / "layerdb" / "x.lost").mkdir()


def operations(host: str) -> list[Operation]:
    """*host* is a registry that has :func:`pulled` as ``<host>/pulled:1``."""
    other, name = loads(_OTHER), f"{host}/pulled:1"
    return [
        Operation("boot", _nothing, (_plant,)),
        Operation("load", other),
        Operation("load-renames", loads(_MOVED)),
        Operation("load-anew", loads(BASE), (lambda s: s.remove("base:1"), lambda s: s.remove("base:2"))),
        Operation("import", lambda s: s.import_(_THREE, repo="imported", tag="1"), fresh=True),
        Operation("tag", lambda s: s.images.tag("base:1", "tagged", "1")),
        Operation("tag-moves", lambda s: s.images.tag("more:1", "base", "1"), (other,)),
        Operation("untag", lambda s: s.remove("base:1"), removes=True),
        Operation("rmi", lambda s: s.remove("more:1"), (other,), removes=True),
        Operation("rmi-parents", lambda s: s.remove("grandchild:1"), (_lineage,), removes=True),
        Operation("prune", _prune, (other, _lineage), removes=True),
        Operation("commit", lambda s: s.commit("c", "base:1", "committed"), (_container,), fresh=True),
        Operation("container", _first_container),
        Operation("pull", lambda s: s.pull(name)),
        Operation("pull-shared", lambda s: s.pull(name), (other,)),
        Operation("push", lambda s: s.push(f"{host}/pushed:1"),
                  (lambda s: s.images.tag("base:1", f"{host}/pushed", "1"),)),
    ]  # fmt: skip
