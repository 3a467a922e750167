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
from services.engine.config.option import parse_bytes
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter, SystemError_

#: moby ``daemon/graphdriver/errors.go``
NOT_SUPPORTED = "driver not supported"
PREREQUISITES = "prerequisites for driver not satisfied (wrong filesystem?)"
#: In a driver's directory: the block device that it is on, for quotas.
DEVICE = "backingFsBlockDev"


class Unusable(SystemError_):
    """A driver cannot work on this host or data root: the automatic choice goes on to the next.

    The text is one of dockerd's above; *reason* says what is missing.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Extraction:
    """Where a new layer's archive is extracted, and what its deletions become there."""

    directory: Path
    whiteouts: Whiteouts


class GraphDriver(Protocol):
    """Implementations are constructed with (root directory of the driver, helpers, options).

    *options* are the ``--storage-opt`` of the daemon: all of them, the keys in lower case with the
    driver's name (``overlay2.size``). The constructor touches nothing; it raises ``InvalidParameter``
    for an option that is not this driver's.
    """

    name: str
    #: Where discarded layers wait to be deleted.
    trash: Path

    def prepare(self) -> None:
        """Look whether it can work here (else raise :class:`Unusable`), and make its directories."""

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


def size_of(text: str) -> int:
    """Bytes of a size as in ``--storage-opt size=10G``; raises ``InvalidParameter``."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def size_option(options: Mapping[str, str]) -> int | None:
    """The ``size`` of a container's ``--storage-opt``, in bytes; raises for options unknown to Docker."""
    found: int | None = None
    for name, value in options.items():
        if name.lower() != "size":
            raise InvalidParameter(f"Unknown option {name}")
        found = size_of(value)
    return found
