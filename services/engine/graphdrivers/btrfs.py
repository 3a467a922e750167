"""btrfs: every layer is a subvolume, made as a snapshot of its parent.

Docker's shape (moby ``daemon/graphdriver/btrfs``), below ``<data-root>/btrfs``::

    subvolumes/<id>   the whole tree of a layer      quotas/<id>   bytes that a container may use
    trash/            subvolumes are renamed here; the remove helper destroys them, nested ones too

A container's root is its subvolume, bound. Making a snapshot waits for the file system's transaction
and is done in a thread; it is on the disk afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from reexec import btrfs
from reexec.archive import syscalls
from reexec.archive.extract import Whiteouts
from services.engine.graphdrivers.base import PREREQUISITES, Extraction, Unusable, size_of, size_option
from services.engine.helpers import Helpers
from services.engine.scopes import shielded
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter, SystemError_

#: ``f_type`` of statfs(2) (linux/magic.h).
_MAGIC = 0x9123683E
#: Seconds until a file system that answers nothing is given up.
_TIMEOUT = 600.0


class Btrfs:
    name = "btrfs"

    def __init__(self, root: Path, helpers: Helpers, options: Mapping[str, str]) -> None:
        self._root = root
        self._subvolumes = root / "subvolumes"
        self._quotas = root / "quotas"
        self.trash = root / "trash"
        #: Bytes that a container's size must at least be; None where the option is not given.
        self._minimum: int | None = None
        self._quota_enabled = False
        for key, value in options.items():
            if key != "btrfs.min_space":
                raise InvalidParameter(f"unknown option {key} ({key}={value})")
            self._minimum = size_of(value)

    def prepare(self) -> None:
        where = self._root if self._root.exists() else self._root.parent
        if syscalls.filesystem_type(str(where)) != _MAGIC:
            raise Unusable(PREREQUISITES, f"{where} is not on btrfs")
        self._root.mkdir(mode=0o710, parents=True, exist_ok=True)
        self._subvolumes.mkdir(mode=0o710, exist_ok=True)
        self._quotas.mkdir(mode=0o700, exist_ok=True)
        self.trash.mkdir(mode=0o700, exist_ok=True)
        limited = os.listdir(self._quotas)
        if self._minimum is not None or limited:
            self._enable_quota()
        for layer in limited:
            self._restore_limit(layer)

    def _restore_limit(self, layer: str) -> None:
        """Quotas may have been turned off and on meanwhile, which forgets every limit."""
        path = self._quotas / layer
        if not (self._subvolumes / layer).exists():
            path.unlink()
        elif (text := path.read_text()).isdecimal():
            btrfs.limit(str(self._subvolumes / layer), int(text))

    def _enable_quota(self) -> None:
        if self._quota_enabled:
            return
        try:
            if not btrfs.quota_enabled(str(self._root)):
                btrfs.enable_quota(str(self._root))
        except OSError as error:
            raise SystemError_(f"Failed to enable btrfs quota for {self._root}: {error.strerror}") from error
        self._quota_enabled = True

    async def create(self, layer: str, parent: str) -> None:
        await self._in_thread(lambda: self._make(layer, parent))

    async def create_read_write(self, layer: str, parent: str, options: Mapping[str, str]) -> None:
        size = size_option(options)
        if size is not None:
            self._check_size(size)

        def make() -> None:
            self._make(layer, parent)
            if size is not None:
                self._limit(layer, size)

        await self._in_thread(make)

    def _check_size(self, size: int) -> None:
        if size <= 0:
            raise InvalidParameter(f"btrfs: invalid storage size: {human_size(size)}")
        if self._minimum and size < self._minimum:
            raise InvalidParameter(f"btrfs: storage size cannot be less than {human_size(self._minimum)}")

    @staticmethod
    async def _in_thread(work: Callable[[], None]) -> None:
        # To its end although the caller is cancelled: who cleans up must find what was made.
        await shielded(asyncio.to_thread(work), _TIMEOUT)

    def _make(self, layer: str, parent: str) -> None:
        path = self._subvolumes / layer
        if path.exists():
            self.discard(layer)
        try:
            if parent:
                btrfs.snapshot(str(self._subvolumes / parent), str(path))
            else:
                btrfs.create(str(path))
                os.chmod(path, 0o755)
        except OSError as error:
            raise SystemError_(f"Failed to create btrfs subvolume: {error.strerror}") from error

    def _limit(self, layer: str, size: int) -> None:
        self._enable_quota()
        # Written first: a limit that is not recorded would be lost with the quotas.
        (self._quotas / layer).write_text(str(size))
        try:
            btrfs.limit(str(self._subvolumes / layer), size)
        except OSError as error:
            raise SystemError_(f"Failed to limit qgroup for {layer}: {error.strerror}") from error

    def extraction(self, layer: str) -> Extraction:
        return Extraction(self._subvolumes / layer, Whiteouts.REMOVE)

    def difference(self, layer: str) -> Path | None:
        return None

    def mounts(self, layer: str, parent: str, *, read_only: bool = False) -> list[pb.Mount]:
        mode = "ro" if read_only else "rw"
        source = str(self._subvolumes / layer)
        return [pb.Mount(type="bind", source=source, target="/", options=["bind", mode])]

    def discard(self, layer: str) -> None:
        (self._quotas / layer).unlink(missing_ok=True)
        path, target = self._subvolumes / layer, self.trash / f"{layer}.{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            try:
                os.rename(path, target)
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise
                btrfs.make_writable(str(path))  # a container can do the opposite to its root
                os.rename(path, target)

    def rename(self, layer: str, new: str) -> None:
        os.rename(self._subvolumes / layer, self._subvolumes / new)

    def layers(self) -> set[str]:
        return {entry.name for entry in os.scandir(self._subvolumes)}

    def data(self, layer: str, parent: str) -> dict[str, str]:
        return {}

    def status(self) -> list[tuple[str, str]]:
        return [("Btrfs", "")]


def human_size(size: float) -> str:
    """``units.HumanSize``: four digits, powers of 1000."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    index = 0
    while size >= 1000 and index < len(units) - 1:
        size /= 1000
        index += 1
    return f"{size:.4g}{units[index]}"


__all__ = ["Btrfs", "human_size"]
