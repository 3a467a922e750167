"""The build context: the client's archive, unpacked into a directory of its own by a confined helper."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reexec.archive.rootfs import RootSpec
from reexec.helpers.untar import Untar
from services.engine.helpers import Helpers, document
from services.engine.scopes import shielded
from services.protocol.errors import InvalidParameter

PREFIX = "build-"
#: Bytes of the largest Dockerfile.
_DOCKERFILE_LIMIT = 4 * 1024 * 1024


def sweep(directory: Path) -> None:
    """Start-up: contexts of builds that a crash has ended."""
    for left in directory.glob(PREFIX + "*"):
        shutil.rmtree(left, ignore_errors=True)


@asynccontextmanager
async def unpacked(helpers: Helpers, directory: Path, fd: int) -> AsyncIterator[Path]:
    """The archive of *fd* as a directory below *directory*, gone at the end."""
    context = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=PREFIX, dir=directory))
    try:
        arguments = Untar(root=RootSpec(directory=str(context)), path="/")
        await helpers.run(document("docker-untar", arguments), {"stdin": fd})
        yield context
    finally:
        await shielded(asyncio.to_thread(shutil.rmtree, context, ignore_errors=True))


def read_dockerfile(context: Path, name: str) -> str:
    """Raises ``InvalidParameter`` when it is not inside the context, absent, empty or too large."""
    path = os.path.realpath(context / os.path.normpath("/" + name).lstrip("/"))
    inside = path.startswith(f"{os.path.realpath(context)}/")
    if not inside or not os.path.isfile(path):
        raise InvalidParameter(f"Cannot locate specified Dockerfile: {name}")
    if os.path.getsize(path) > _DOCKERFILE_LIMIT:
        raise InvalidParameter(f"the Dockerfile ({name}) is too large")
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    if not text:
        raise InvalidParameter(f"the Dockerfile ({name}) cannot be empty")
    return text
