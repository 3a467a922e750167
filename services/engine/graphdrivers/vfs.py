"""vfs: every layer is a full copy of its parent. Slow and large, and it works anywhere.

The copy shares its data with the parent where the file system can clone files (XFS, btrfs). A size
counts the whole copy.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from reexec.archive.extract import Whiteouts
from services.engine.graphdrivers.base import DEVICE, Extraction, size_of
from services.engine.graphdrivers.projectquota import ProjectQuota, QuotaNotSupported
from services.engine.helpers import Helpers
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter, SystemError_


class Vfs:
    name = "vfs"

    def __init__(self, root: Path, helpers: Helpers, options: Mapping[str, str]) -> None:
        #: Bytes that a container may use unless it says otherwise; 0: no limit.
        self._size = 0
        for key, value in options.items():
            if key != "size":
                raise InvalidParameter(f"vfs driver does not support {key} options")
            self._size = size_of(value)
        self._quota: ProjectQuota | None = None
        self._root = root
        self._dirs = root / "dir"
        self.trash = root / "trash"
        self._helpers = helpers

    def prepare(self) -> None:
        self._dirs.mkdir(mode=0o710, parents=True, exist_ok=True)
        self.trash.mkdir(mode=0o700, exist_ok=True)
        try:
            self._quota = ProjectQuota(self._root / DEVICE, [self._dirs, self.trash])
        except QuotaNotSupported as error:
            if self._size:
                raise SystemError_(str(error)) from error

    async def create(self, layer: str, parent: str) -> None:
        await self._make(layer, parent, 0)

    async def _make(self, layer: str, parent: str, size: int) -> None:
        home = self._dirs / layer
        if home.exists():
            self.discard(layer)
        os.mkdir(home)
        if size:
            assert self._quota is not None
            self._quota.limit(home, size)
        os.chmod(home, 0o755)
        if parent:
            await self._helpers.run(["docker-copytree", str(self._dirs / parent), str(home)])

    async def create_read_write(self, layer: str, parent: str, options: Mapping[str, str]) -> None:
        size = self._size
        for name, value in options.items():
            if name != "size":
                raise InvalidParameter(f"Storage opt {name} not supported")
            if self._quota is None:
                raise InvalidParameter(str(QuotaNotSupported()))
            size = size_of(value)
        await self._make(layer, parent, size)

    def extraction(self, layer: str) -> Extraction:
        return Extraction(self._dirs / layer, Whiteouts.REMOVE)

    def difference(self, layer: str) -> Path | None:
        return None

    def mounts(self, layer: str, parent: str, *, read_only: bool = False) -> list[pb.Mount]:
        mode = "ro" if read_only else "rw"
        return [pb.Mount(type="bind", source=str(self._dirs / layer), target="/", options=["bind", mode])]

    def discard(self, layer: str) -> None:
        try:
            os.rename(self._dirs / layer, self.trash / f"{layer}.{secrets.token_hex(4)}")
        except FileNotFoundError:
            pass

    def rename(self, layer: str, new: str) -> None:
        os.rename(self._dirs / layer, self._dirs / new)

    def layers(self) -> set[str]:
        return {entry.name for entry in os.scandir(self._dirs)}

    def data(self, layer: str, parent: str) -> dict[str, str]:
        return {}

    def status(self) -> list[tuple[str, str]]:
        return []
