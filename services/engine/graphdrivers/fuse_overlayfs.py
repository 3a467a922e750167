"""fuse-overlayfs: overlay2's directories, joined by a program where the kernel refuses to.

The program is started by who mounts: the container's shim, or a helper (``reexec.archive.fuse``). No
daemon of the engine's keeps a container's root alive, and none has to be ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reexec.archive import fuse
from services.engine.graphdrivers.base import NOT_SUPPORTED, Unusable
from services.engine.graphdrivers.stacked import Stacked
from services.engine.helpers import Helpers
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter


class FuseOverlayfs(Stacked):
    name = "fuse-overlayfs"

    def __init__(self, root: Path, helpers: Helpers, options: Mapping[str, str]) -> None:
        super().__init__(root)
        for key in options:
            raise InvalidParameter(f"fuse-overlayfs: unknown option {key}")

    def prepare(self) -> None:
        if reason := fuse.missing():
            raise Unusable(NOT_SUPPORTED, reason)
        self._make_directories()

    async def create_read_write(self, layer: str, parent: str, options: Mapping[str, str]) -> None:
        if options:
            raise InvalidParameter("--storage-opt is not supported")
        self._make(layer, parent)

    def mounts(self, layer: str, parent: str, *, read_only: bool = False) -> list[pb.Mount]:
        options = self._joined(layer, parent, read_only=read_only)
        if not options:
            mode = "ro" if read_only else "rw"
            source = str(self._root / layer / "diff")
            return [pb.Mount(type="bind", source=source, target="/", options=["bind", mode])]
        return [pb.Mount(type=fuse.TYPE, source=fuse.PROGRAM, target="/", options=options)]

    def status(self) -> list[tuple[str, str]]:
        return []
