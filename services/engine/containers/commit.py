"""``docker commit``: a container's changes become an image."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.engine.containers import stop
from services.engine.containers.announce import announce
from services.engine.containers.image_config import merge_image_config
from services.engine.containers.model import Entry, Status
from services.engine.containers.services import Services
from services.engine.rpc import Context, Router
from services.engine.scopes import shielded
from services.protocol.api.containers import Config
from services.protocol.errors import InvalidParameter, WharfError
from services.protocol.verbs import containers as verbs

log = logging.getLogger(__name__)


def register(router: Router, services: Services) -> None:
    """Serve the verb of this module on *router*."""

    async def handle(args: verbs.CommitArgs, _: Context) -> verbs.Id:
        return verbs.Id(await commit(services, args))

    router.add(verbs.COMMIT, handle)


async def commit(services: Services, args: verbs.CommitArgs) -> str:
    """The new image's id. Raises ``NotFound``, ``InvalidParameter``, ``Conflict``."""
    if not args.ref:
        raise InvalidParameter('invalid name or ID supplied: ""')
    entry = services.registry.get(args.ref)
    if entry.state.status is Status.REMOVING:
        raise InvalidParameter(f"You cannot commit container {entry.id} which is being removed")
    config = _config(services, entry, args)
    async with AsyncExitStack() as stack:
        if args.pause and entry.state.status is Status.RUNNING:
            await stack.enter_async_context(_paused(services, entry))
        # The step's history is what was run here, not what the image is told to run.
        command = " ".join(entry.definition.config.cmd or [])
        made = await services.images.commit(entry.id, entry.definition.image_id, config, args, command)
        attributes = {"comment": args.comment, "imageID": made.id, "imageRef": made.name}
        announce(services, entry, "commit", **attributes)
    return made.id


@asynccontextmanager
async def _paused(services: Services, entry: Entry) -> AsyncIterator[None]:
    """Paused meanwhile, if it can be: it may end, or be paused or resumed by others, at any moment.

    As in dockerd, that is no reason against the commit.
    """
    async with AsyncExitStack() as stack:
        try:
            await stop.pause(services, entry, for_commit=True)
        except WharfError as error:
            log.info("container %s is committed without a pause: %s", entry.id, error)
        else:
            stack.push_async_callback(lambda: shielded(_unpause(services, entry)))
        yield


async def _unpause(services: Services, entry: Entry) -> None:
    try:
        await stop.unpause(services, entry)
    except WharfError as error:
        log.info("container %s is not resumed after its commit: %s", entry.id, error)


def _config(services: Services, entry: Entry, args: verbs.CommitArgs) -> Config:
    own = copy.deepcopy(entry.definition.config)
    config = args.config if args.config is not None else copy.deepcopy(own)
    services.images.apply_changes(config, args.changes)
    merge_image_config(config, own)
    return config
