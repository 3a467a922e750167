"""``docker container prune``."""

from __future__ import annotations

import logging
import time

from services.engine.containers.filters import compile_prune
from services.engine.containers.remove import remove
from services.engine.containers.services import Services
from services.engine.containers.transitions import ACTIVE
from services.protocol.api.containers import PruneReply
from services.protocol.errors import Conflict, WharfError
from services.protocol.verbs import Filters

log = logging.getLogger(__name__)


async def prune(services: Services, args: Filters) -> PruneReply:
    """Remove, newest first, what does not run, but not what builds that go on have; volumes stay.

    One prune at a time (``Conflict``)."""
    tests = compile_prune(args.filters, time.time())
    if services.pruning.locked():
        raise Conflict("a prune operation is already running")
    async with services.pruning:
        reply = PruneReply()
        for entry in sorted(services.registry, key=lambda entry: -entry.definition.created_at):
            if entry.state.status in ACTIVE or entry.definition.request_id in services.busy:
                continue
            if not all(test(entry) for test in tests):
                continue
            try:
                size, _ = await services.layers.sizes(entry.id)
                await remove(services, entry)
            except WharfError as error:
                log.warning("container %s was not pruned: %s", entry.id, error)
                continue
            reply.space_reclaimed += size
            reply.containers_deleted = [*(reply.containers_deleted or []), entry.id]
    services.events.publish("container", "prune", "", {"reclaimed": str(reply.space_reclaimed)})
    return reply
