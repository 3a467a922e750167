"""The image service: what containers ask of images, and the operations of the API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from services.engine.contracts import Committed, ContainerUsers, Image
from services.engine.events import Events
from services.engine.helpers import Helpers
from services.engine.images import committing, views
from services.engine.images.changes import apply_changes
from services.engine.images.listing import Filters, Lister
from services.engine.images.loading import Loader
from services.engine.images.model import Record
from services.engine.images.notices import Notices
from services.engine.images.references import parse_repository
from services.engine.images.removal import Remover
from services.engine.images.saving import Saver
from services.engine.images.store import ImageStore
from services.engine.layers import Layer, LayerManager
from services.engine.registry import platforms
from services.engine.store import Store
from services.protocol.api import images as api
from services.protocol.api.containers import Config
from services.protocol.errors import InvalidParameter, NotFound
from services.protocol.fdpass import Handover
from services.protocol.verbs.containers import CommitArgs
from services.protocol.verbs.images import ImportArgs


class ImageManager:
    """Implements ``services.engine.contracts.ImageService``."""

    def __init__(
        self,
        store: Store,
        layers: LayerManager,
        events: Events,
        helpers: Helpers,
        data_root: Path,
        containers: ContainerUsers,
    ) -> None:
        self.store = ImageStore(store, layers, data_root)
        self._layers = layers
        self._notices = Notices(events)
        self._lister = Lister(self.store, layers, containers)
        self._remover = Remover(self.store, layers, self._notices, containers)
        self._saver = Saver(self.store, layers, helpers, self._notices, data_root)
        self._loader = Loader(self.store, layers, helpers, self._notices, data_root)

    def resolve(self, reference: str, platform: str = "") -> Image:
        record = self.found(reference, platform)
        config = record.config
        return Image(
            id=record.id,
            config=record.container_config,
            chain_id=record.chain_id,
            os=config.os or "linux",
            architecture=config.architecture,
            reference=reference,
            created=config.created,
        )

    def found(self, ref: str, platform: str) -> Record:
        """The image, which must be for *platform* if there is one. Raises ``NotFound``."""
        record = self.store.get(ref)
        if platform:
            self._check_platform(ref, platform, record)
        return record

    @staticmethod
    def _check_platform(reference: str, wanted: str, record: Record) -> None:
        config, platform = record.config, platforms.parse(wanted)
        if platforms.is_for(platform, config.os, config.architecture, config.variant):
            return
        actual = "/".join(
            part for part in (config.os or "linux", config.architecture, config.variant) if part
        )
        raise NotFound(
            f"image with reference {reference} was found but its platform ({actual}) "
            f"does not match the specified platform ({platform})"
        )

    def names(self, image_id: str) -> list[str]:
        return [r.familiar for r in self.store.references(image_id) if not r.digest]

    def ancestors(self, reference: str) -> set[str]:
        try:
            pending = [self.store.get(reference).id]
        except (NotFound, InvalidParameter):
            return set()
        found: set[str] = set()
        while pending:
            image_id = pending.pop()
            if image_id not in found:
                found.add(image_id)
                pending.extend(self.store.children(image_id))
        return found

    def count(self) -> int:
        """All of them, as dockerd counts: with those that are only the parents of others."""
        return len(self.store)

    async def usage(self) -> list[api.ImageSummary]:
        return self._lister.list(all=False, filters={}, shared_size=True)

    def summaries(self, *, all: bool, filters: Filters, shared_size: bool) -> list[api.ImageSummary]:
        return self._lister.list(all=all, filters=filters, shared_size=shared_size)

    def inspect(self, ref: str, platform: str = "") -> api.ImageInspect:
        record = self.found(ref, platform)
        return views.inspect(record, self.store, self._layers, self._lister.size(record))

    def history(self, ref: str, platform: str = "") -> list[api.HistoryItem]:
        return views.history(self.found(ref, platform), self.store, self._layers)

    def apply_changes(self, config: Config, changes: Sequence[str]) -> None:
        apply_changes(config, changes)

    async def commit(
        self, container_id: str, image_id: str, config: Config, args: CommitArgs, created_by: str = ""
    ) -> Committed:
        reference = parse_repository(args.repo, args.tag) if args.repo else None
        # An image that was removed by force leaves its containers, but nothing to build on.
        parent = self.store.existing(image_id) if image_id else None
        layer = await self._layers.commit(container_id)
        try:
            record = await committing.commit(
                self.store,
                parent,
                layer,
                config,
                author=args.author,
                comment=args.comment,
                created_by=created_by,
            )
            self._notices.publish("create", record)
            if reference is not None:
                await self.store.tag(reference, record.id)
                self._notices.publish("tag", record, reference.familiar)
        finally:
            await self._layers.release(layer.chain_id)
        return Committed(id=record.id, name=reference.familiar if reference else "")

    async def build(
        self,
        parent: Record | None,
        layer: Layer | None,
        config: Config,
        *,
        author: str,
        created_by: str,
        pins: set[str],
        created: int | None = None,
        told: bool = False,
    ) -> Record:
        """A build step's image: *parent*'s layers and *layer* (held by the caller), if it has anything.

        *created*: Unix seconds, now if it is not given. *pins*: images of the build, which get its id.
        *told*: there is an event."""
        record = await committing.commit(
            self.store, parent, layer, config,
            author=author, comment="", created_by=created_by, created=created, pins=pins,
        )  # fmt: skip
        if told:
            self._notices.publish("create", record)
        return record

    async def squash(
        self, record: Record, base: Record | None, layer: Layer, *, created: int | None, pins: set[str]
    ) -> Record:
        """*record* with *layer* (held by the caller) in place of its own layers on *base*."""
        return await committing.squash(self.store, record, base, layer, created=created, pins=pins)

    async def tag(self, ref: str, repo: str, tag: str) -> None:
        """Raises ``InvalidParameter`` for the new name; whatever is wrong with *ref* is ``NotFound``."""
        reference = parse_repository(repo, tag)
        if reference.familiar_name == "sha256":
            raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
        try:
            record = self.store.get(ref)
        except InvalidParameter as error:
            raise NotFound(str(error)) from error
        await self.store.tag(reference, record.id)
        self._notices.publish("tag", record, reference.familiar)

    async def remove(self, ref: str, *, force: bool, prune: bool) -> list[api.DeleteItem]:
        return await self._remover.remove(ref, force=force, prune=prune)

    async def prune(self, filters: Filters) -> api.ImagePruneReply:
        return await self._remover.prune(filters)

    def save(self, names: list[str], platform: str = "") -> Handover:
        return self._saver.save(names, platform)

    def load(self, fd: int, *, quiet: bool, platform: str) -> AsyncGenerator[bytes, None]:
        return self._loader.load(fd, quiet=quiet, platform=platform)

    def fetched(self, url: str) -> AbstractAsyncContextManager[int]:
        """A descriptor of what is at *url*. Raises ``InvalidParameter``."""
        return self._loader.fetched(url)

    def import_(self, fd: int, args: ImportArgs) -> AsyncGenerator[bytes, None]:
        return self._loader.import_(fd, args)


__all__ = ["ImageManager"]
