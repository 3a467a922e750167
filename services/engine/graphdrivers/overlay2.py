"""overlay2: one directory per layer, joined by overlayfs in the mount namespace of who looks.

Containers' sizes are limited by project quotas, on XFS mounted with them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from services.engine.config.option import parse_bool
from services.engine.graphdrivers.base import (
    DEVICE,
    NOT_SUPPORTED,
    Unusable,
    size_of,
    size_option,
)
from services.engine.graphdrivers.probes import backing_filesystem, supports_d_type, try_overlay
from services.engine.graphdrivers.projectquota import ProjectQuota, QuotaNotSupported
from services.engine.graphdrivers.stacked import Stacked
from services.engine.helpers import Helpers
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter, SystemError_


class Overlay2(Stacked):
    name = "overlay2"

    def __init__(self, root: Path, helpers: Helpers, options: Mapping[str, str]) -> None:
        super().__init__(root)
        #: Bytes that a container may use unless it says otherwise; 0: no limit.
        self._size = 0
        for key, value in options.items():
            if key == "overlay2.size":
                self._size = size_of(value)
            elif key == "overlay2.override_kernel_check":
                _check_bool(value)  # there is no kernel check any more, in Docker either
            else:
                raise InvalidParameter(f"overlay2: unknown option {key}")
        self._quota: ProjectQuota | None = None
        #: Mount options of every writable overlay.
        self._options: list[str] = []

    def prepare(self) -> None:
        self._root.mkdir(mode=0o710, parents=True, exist_ok=True)
        try:
            probe(self._root)
        except Unusable:
            with contextlib.suppress(OSError):
                self._root.rmdir()  # unless there are layers
            raise
        self._make_directories()
        self._options = _default_options()
        self._find_quota()

    def _find_quota(self) -> None:
        backing = backing_filesystem(self._root)
        if backing == "xfs":
            try:
                self._quota = ProjectQuota(self._root / DEVICE, [self._root, self.trash])
            except QuotaNotSupported as error:
                if self._size:
                    raise SystemError_(
                        "Storage option overlay2.size not supported. "
                        f"Filesystem does not support Project Quota: {error}"
                    ) from error
        elif self._size:
            raise SystemError_(
                f"Storage Option overlay2.size only supported for backingFS XFS. Found {backing}"
            )

    async def create_read_write(self, layer: str, parent: str, options: Mapping[str, str]) -> None:
        size = size_option(options)
        if size is not None and self._quota is None:
            raise InvalidParameter(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
            )
        self._make(layer, parent, self._size if size is None else size)

    def _limit(self, home: Path, size: int) -> None:
        assert self._quota is not None
        self._quota.limit(home, size)

    def mounts(self, layer: str, parent: str, *, read_only: bool = False) -> list[pb.Mount]:
        options = self._joined(layer, parent, read_only=read_only)
        if not options:
            mode = "ro" if read_only else "rw"
            source = str(self._root / layer / "diff")
            return [pb.Mount(type="bind", source=source, target="/", options=["bind", mode])]
        if not read_only:
            options += self._options
        return [pb.Mount(type="overlay", source="overlay", target="/", options=options)]

    def status(self) -> list[tuple[str, str]]:
        return [
            ("Backing Filesystem", backing_filesystem(self._root)),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
        ]


def _check_bool(text: str) -> None:
    try:
        parse_bool(text)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def _default_options() -> list[str]:
    """What this host's overlayfs has to be told.

    ``index`` would refuse a layer that was mounted from another place before (moby turns it off too).
    With redirects or metadata-only copies a layer's directory no longer tells what changed.
    """
    options = []
    for name, unless in (("index", ""), ("redirect_dir", "N"), ("metacopy", "N")):
        try:
            value = Path(f"/sys/module/overlay/parameters/{name}").read_text().strip()
        except OSError:
            continue
        if value != unless:
            options.append(f"{name}=off")
    return options


def probe(root: Path) -> None:
    """Raises :class:`Unusable` when overlayfs is not there or *root*'s file system cannot carry it."""
    try:
        try_overlay(root)
    except OSError as error:
        reason = f"failed to mount overlay on {root}: {(error.strerror or str(error)).lower()}"
        raise Unusable(NOT_SUPPORTED, reason) from error
    if not supports_d_type(root):
        raise Unusable(_no_d_type(backing_filesystem(root)), str(root))


def _no_d_type(backing: str) -> str:
    """moby ``daemon/graphdriver/overlayutils``."""
    advice = {
        "xfs": " Reformat the filesystem with ftype=1 to enable d_type support.",
        "extfs": " Reformat the filesystem (or use tune2fs) with -O filetype flag to enable d_type support.",
    }
    return (
        f"overlay2: the backing {backing} filesystem is formatted without d_type support, which leads to "
        f"incorrect behavior.{advice.get(backing, '')} "
        "Backing filesystems without d_type support are not supported."
    )


__all__ = ["Overlay2", "probe"]
