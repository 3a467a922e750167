"""A container's mounts at start: volumes held, sources checked, the list for the OCI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.engine.containers.model import Entry
from services.engine.containers.services import Services
from services.protocol import oci
from services.protocol.errors import Unimplemented

Release = Callable[[], Awaitable[None]]


async def prepare_mounts(services: Services, entry: Entry) -> tuple[list[oci.Mount], Release]:
    """All mounts of a start, in order, and what gives back the volumes it holds.

    The files of ``etc.write_files`` must be there. The release is idempotent; after a crash
    :func:`release_mounts` does the same without it.
    """
    raise Unimplemented("mounts")


async def release_mounts(services: Services, entry: Entry) -> None:
    """Give back every volume of *entry*; idempotent."""
    raise Unimplemented("mounts")
