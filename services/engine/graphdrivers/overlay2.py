"""overlay2: one directory per layer, joined by overlayfs in the mount namespace of who looks.

Docker's shape (moby ``daemon/graphdriver/overlay2``), below ``<data-root>/overlay2``::

    <id>/diff     what the layer changed        <id>/link    its short name
    <id>/lower    short names of all below      <id>/work, <id>/merged
    l/<SHORT>  -> ../<id>/diff                  trash/       renamed here to be deleted

``lower`` and ``link`` are read back for read-only layers, which are synced before they count; those of
a container's layer are there for people to read.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from reexec.archive.extract import Whiteouts
from services.engine.graphdrivers.base import (
    INCOMPATIBLE,
    NOT_SUPPORTED,
    Extraction,
    Unusable,
    size_option,
)
from services.engine.graphdrivers.probes import backing_filesystem, supports_d_type, try_overlay
from services.engine.helpers import Helpers
from services.protocol import task_pb2 as pb
from services.protocol.errors import InvalidParameter, SystemError_

#: Layers below a container; moby's limit, which keeps the options in one page.
MAX_DEPTH = 128


def _short_name() -> str:
    """26 characters, as moby's."""
    return base64.b32encode(secrets.token_bytes(17)).decode().rstrip("=")[:26]


class Overlay2:
    name = "overlay2"

    def __init__(self, root: Path, helpers: Helpers, options: Mapping[str, str]) -> None:
        for key in options:
            raise InvalidParameter(f"overlay2: unknown option {key}")
        self._root = root
        self._links = root / "l"
        self.trash = root / "trash"
        #: Layer -> short names of itself and of everything below it, top first.
        self._stacks: dict[str, tuple[str, ...]] = {}
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
        self._links.mkdir(mode=0o700, exist_ok=True)
        self.trash.mkdir(mode=0o700, exist_ok=True)
        self._options = _default_options()

    async def create(self, layer: str, parent: str) -> None:
        self._make(layer, parent)

    async def create_read_write(self, layer: str, parent: str, options: Mapping[str, str]) -> None:
        if size_option(options) is not None:
            raise InvalidParameter(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
            )
        self._make(layer, parent)

    def _make(self, layer: str, parent: str) -> None:
        below = self._stack(parent) if parent else ()
        if len(below) >= MAX_DEPTH:
            raise SystemError_("max depth exceeded")
        home = self._root / layer
        if home.exists():
            self.discard(layer)
        home.mkdir(mode=0o710)
        # The root directory of a container's layer is its "/": it needs the mode users expect.
        _mkdir(home / "diff", 0o755)
        if parent:
            _mkdir(home / "work", 0o700)
            _mkdir(home / "merged", 0o700)
            (home / "lower").write_text(":".join(f"l/{name}" for name in below))
        short = _short_name()
        os.symlink(f"../{layer}/diff", self._links / short)
        (home / "link").write_text(short)
        if below:
            self._match_root(layer, below[0])

    def _match_root(self, layer: str, below: str) -> None:
        """The tree's root directory looks as in the layer below until a layer changes it."""
        found = os.stat(self._links / below)
        path = self._root / layer / "diff"
        if (found.st_uid, found.st_gid) != (0, 0):
            os.chown(path, found.st_uid, found.st_gid)
        if found.st_mode & 0o7777 != 0o755:
            os.chmod(path, found.st_mode & 0o7777)

    def _stack(self, layer: str) -> tuple[str, ...]:
        """Short names of *layer* and of all below it; raises :class:`SystemError_` if it is not there."""
        if (stack := self._stacks.get(layer)) is None:
            home = self._root / layer
            try:
                own = (home / "link").read_text()
                below = (home / "lower").read_text() if (home / "lower").exists() else ""
            except OSError as error:
                raise SystemError_(f"layer {layer} is not readable: {error.strerror}") from error
            stack = (own, *(name.removeprefix("l/") for name in below.split(":") if name))
            self._stacks[layer] = stack
        return stack

    def extraction(self, layer: str) -> Extraction:
        return Extraction(self._root / layer / "diff", Whiteouts.OVERLAY)

    def difference(self, layer: str) -> Path | None:
        return self._root / layer / "diff"

    def mounts(self, layer: str, parent: str, *, read_only: bool = False) -> list[pb.Mount]:
        home = self._root / layer
        below = self._stack(parent) if parent else ()
        lower = [f"{self._links}/{name}" for name in below]
        if not below:
            mode = "ro" if read_only else "rw"
            return [pb.Mount(type="bind", source=str(home / "diff"), target="/", options=["bind", mode])]
        if read_only:
            options = ["ro", "lowerdir=" + ":".join([str(home / "diff"), *lower])]
        else:
            options = [
                "lowerdir=" + ":".join(lower),
                f"upperdir={home}/diff",
                f"workdir={home}/work",
                *self._options,
            ]
        return [pb.Mount(type="overlay", source="overlay", target="/", options=options)]

    def discard(self, layer: str) -> None:
        self._stacks.pop(layer, None)
        home = self._root / layer
        try:
            (self._links / (home / "link").read_text()).unlink(missing_ok=True)
        except (OSError, ValueError):
            pass  # made only half-way, or lost: the sweep of dangling links finds it
        try:
            os.rename(home, self.trash / f"{layer}.{secrets.token_hex(4)}")
        except FileNotFoundError:
            pass

    def rename(self, layer: str, new: str) -> None:
        stack = self._stack(layer)
        link = self._links / stack[0]
        fresh = self._links / f".{stack[0]}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"../{new}/diff")
        os.rename(self._root / layer, self._root / new)
        os.rename(fresh, link)
        self._stacks[new] = self._stacks.pop(layer)

    def layers(self) -> set[str]:
        self._sweep_links()
        return {entry.name for entry in os.scandir(self._root) if entry.name not in ("l", "trash")}

    def _sweep_links(self) -> None:
        for entry in os.scandir(self._links):
            if not os.path.exists(entry.path):
                os.unlink(entry.path)

    def data(self, layer: str, parent: str) -> dict[str, str]:
        home = self._root / layer
        data = {
            "MergedDir": f"{home}/merged",
            "UpperDir": f"{home}/diff",
            "WorkDir": f"{home}/work",
        }
        if parent:
            data["LowerDir"] = ":".join(
                str(self._root / os.readlink(self._links / name).removeprefix("../"))
                for name in self._stack(parent)
            )
        return data

    def status(self) -> list[tuple[str, str]]:
        return [
            ("Backing Filesystem", backing_filesystem(self._root)),
            ("Supports d_type", "true"),
            ("Using metacopy", "false"),
            ("Native Overlay Diff", "true"),
            ("userxattr", "false"),
        ]


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


def _mkdir(path: Path, mode: int) -> None:
    os.mkdir(path)
    os.chmod(path, mode)


def probe(root: Path) -> None:
    """Raises :class:`Unusable` when overlayfs is not there or *root*'s file system cannot carry it."""
    backing = backing_filesystem(root)
    if backing in ("aufs", "ecryptfs", "nfs", "overlayfs"):
        raise Unusable(INCOMPATIBLE, f"{root} is on {backing}")
    try:
        try_overlay(root)
    except OSError as error:
        reason = f"failed to mount overlay: {(error.strerror or str(error)).lower()}"
        raise Unusable(NOT_SUPPORTED, reason) from error
    if not supports_d_type(root):
        raise Unusable(
            f"overlay2: the backing {backing} filesystem is formatted without d_type support, which leads "
            "to incorrect behavior. Reformat the filesystem with ftype=1 to enable d_type support",
            "backing filesystems without d_type support are not supported",
        )


__all__ = ["MAX_DEPTH", "Overlay2", "probe"]
