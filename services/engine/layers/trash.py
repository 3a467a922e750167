"""Deleting what was removed: in the background, by a helper, several at once."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from services.engine.helpers import Helpers
from services.engine.scopes import Background
from services.protocol.errors import WharfError

log = logging.getLogger(__name__)

#: Seconds between the removal of something and its deletion: a storm of removals is one helper.
_DELAY = 0.25
#: Seconds until a failed deletion is tried again.
_RETRY = 5.0
_ATTEMPTS = 5
#: Directories in one call: the request is one message.
_BATCH = 256


class Trash:
    def __init__(self, directory: Path, helpers: Helpers, background: Background) -> None:
        self._directory = directory
        self._helpers = helpers
        self._background = background
        self._worker: asyncio.Task[None] | None = None
        self._more = False

    def kick(self) -> None:
        """Something may have been put into the directory."""
        self._more = True
        if self._worker is None or self._worker.done():
            self._worker = self._background.spawn(self._empty(), name="trash")

    async def _empty(self) -> None:
        attempts = 0
        while self._more and attempts < _ATTEMPTS:
            self._more = False
            await asyncio.sleep(_DELAY)
            paths = [str(self._directory / name) for name in os.listdir(self._directory)]
            failed = False
            for start in range(0, len(paths), _BATCH):
                try:
                    await self._helpers.run(["docker-remove", *paths[start : start + _BATCH]])
                except WharfError as error:
                    log.warning("removed layers are not deleted yet: %s", error)
                    failed = True
            attempts = attempts + 1 if failed else 0
            if failed:
                self._more = True
                await asyncio.sleep(_RETRY)
