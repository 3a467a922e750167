"""What a graph driver does: keep layers, and say how a container's root is mounted from them.

Vocabulary: a *layer* is a directory tree known by an id. A read-only layer is created on a parent,
filled once by the ``docker-applylayer`` helper at :meth:`GraphDriver.extraction`, and never changed
again. A *read-write* layer is created on a parent and written to by one container.

::

    await driver.create("base", "")              # driver.extraction("base") is filled
    await driver.create("top", "base")           # likewise
    await driver.create_read_write("c1", "top")
    driver.mounts("c1", "top")                   # mounted by the runtime, or by a helper
    driver.discard("c1"); driver.discard("top")

The driver holds no references and no database: the layer manager tells it what to do, in an order
that a crash can interrupt anywhere. A create that is repeated starts anew; removing what is not there
is fine. Nothing is mounted on the host. Ids are hexadecimal, or such an id and ``-init``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from reexec.archive.extract import Whiteouts
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter


@dataclass(frozen=True)
class Extraction:
    """Where a new layer's archive is extracted, and what its deletions become there."""

    directory: Path
    whiteouts: Whiteouts


class GraphDriver(Protocol):
    """Implementations are constructed with (root directory of the driver, helpers, options)."""

    name: str
    #: Where discarded layers wait to be deleted.
    trash: Path

    def prepare(self) -> None:
        """Make the driver's directories. Raises ``SystemError_`` when it cannot work here."""

    async def create(self, layer: str, parent: str) -> None:
        """A layer to be filled; *parent* "" is none. What an earlier attempt left is replaced."""

    async def create_read_write(self, layer: str, parent: str, options: Mapping[str, str]) -> None:
        """A container's layer. Raises ``InvalidParameter`` for *options* it does not have."""

    def extraction(self, layer: str) -> Extraction: ...

    def mounts(self, layer: str, parent: str, *, read_only: bool = False) -> list[pb.Mount]:
        """The whole tree of *layer*, for mounting on a container's root."""

    def difference(self, layer: str) -> Path | None:
        """The directory that holds only what *layer* changed; None if the driver cannot tell."""

    def discard(self, layer: str) -> None:
        """Remove a layer's name at once; its bytes are moved to the trash directory."""

    def rename(self, layer: str, new: str) -> None:
        """Give a filled layer that nothing was made upon its final id, atomically."""

    def layers(self) -> set[str]:
        """Ids of all layers there are, finished or not."""

    def data(self, layer: str, parent: str) -> dict[str, str]:
        """``GraphDriver.Data`` of inspect."""

    def status(self) -> list[tuple[str, str]]:
        """``DriverStatus`` of info."""


def refuse_storage_options(options: Mapping[str, str]) -> None:
    """For drivers without quotas: raises ``InvalidParameter`` if a container asks for one."""
    for name in options:
        if name.lower() == "size":
            raise InvalidParameter(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
            )
        raise InvalidParameter(f"Unknown option {name}")
