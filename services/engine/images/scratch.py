"""Directories for files on their way in or out, below ``<data-root>/tmp``; what a crash leaves is removed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from reexec.helpers.remove import remove_in_use
from services.engine.scopes import settled, shielded
from services.protocol.errors import SystemError_


class Scratch:
    """For one kind of transfer, whose directories begin with *prefix*."""

    def __init__(self, data_root: Path, prefix: str) -> None:
        self._prefix = prefix
        self._directory = data_root / "tmp"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._directory.glob(prefix + "*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def directory(self) -> AsyncIterator[Path]:
        """A new one, removed with all that is in it."""
        making = asyncio.to_thread(tempfile.mkdtemp, prefix=self._prefix, dir=self._directory)
        made = Path(await settled(making))
        try:
            yield made
        finally:
            await shielded(asyncio.to_thread(_remove, made))


def _remove(directory: Path) -> None:
    """What cannot go is left to the next start."""
    with contextlib.suppress(OSError, SystemError_):
        remove_in_use(str(directory))
