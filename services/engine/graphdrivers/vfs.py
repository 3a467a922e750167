"""vfs: every layer is a full copy of its parent. Slow and large, and it works anywhere.

The copy shares its data with the parent where the file system can clone files (XFS, btrfs).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from reexec.archive.extract import Whiteouts
from services.engine.graphdrivers.base import Extraction
from services.engine.helpers import Helpers
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter


class Vfs:
    name = "vfs"

    def __init__(self, root: Path, helpers: Helpers, options: Mapping[str, str]) -> None:
        for key in options:
            raise InvalidParameter(f"vfs driver does not support {key} options")
        self._dirs = root / "dir"
        self.trash = root / "trash"
        self._helpers = helpers

    def prepare(self) -> None:
        self._dirs.mkdir(mode=0o710, parents=True, exist_ok=True)
        self.trash.mkdir(mode=0o700, exist_ok=True)

    async def create(self, layer: str, parent: str) -> None:
        home = self._dirs / layer
        if home.exists():
            self.discard(layer)
        os.mkdir(home)
        os.chmod(home, 0o755)
        if parent:
            await self._helpers.run(["docker-copytree", str(self._dirs / parent), str(home)])

    async def create_read_write(self, layer: str, parent: str, options: Mapping[str, str]) -> None:
        for name in options:
            if name.lower() == "size":
                raise InvalidParameter("Filesystem does not support, or has not enabled quotas")
            raise InvalidParameter(f"Storage opt {name} not supported")
        await self.create(layer, parent)

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
