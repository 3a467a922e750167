"""Layers as directories with what each one changed, in Docker's shape, below ``<data-root>/<driver>``::

    <id>/diff     what the layer changed        <id>/link    its short name
    <id>/lower    short names of all below      <id>/work, <id>/merged
    l/<SHORT>  -> ../<id>/diff                  trash/       renamed here to be deleted

What joins them is up to the driver (moby ``daemon/graphdriver/overlay2``, ``.../fuse-overlayfs``).
``lower`` and ``link`` are read back for read-only layers, which are synced before they count; those of
a container's layer are there for people to read.
"""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from pathlib import Path

from reexec.archive.extract import Whiteouts
from services.engine.graphdrivers.base import DEVICE, Extraction
from services.engine.graphdrivers.blockgroups import spread
from services.protocol.errors import SystemError_

#: Layers below a container; moby's limit, which keeps the options in one page.
MAX_DEPTH = 128
#: What the driver keeps beside its layers.
LINKS, TRASH = "l", "trash"


def _short_name() -> str:
    """26 characters, as moby's."""
    return base64.b32encode(secrets.token_bytes(17)).decode().rstrip("=")[:26]


class Stacked:
    """All of a graph driver but what depends on who joins the layers."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._links = root / LINKS
        self.trash = root / TRASH
        #: Layer -> short names of itself and of everything below it, top first.
        self._stacks: dict[str, tuple[str, ...]] = {}

    def _make_directories(self) -> None:
        self._root.mkdir(mode=0o710, parents=True, exist_ok=True)
        self._links.mkdir(mode=0o700, exist_ok=True)
        self.trash.mkdir(mode=0o700, exist_ok=True)

    async def create(self, layer: str, parent: str) -> None:
        self._make(layer, parent, apart=True)

    def _make(self, layer: str, parent: str, size: int = 0, *, apart: bool = False) -> None:
        """*apart*: many files are about to be made in it."""
        below = self._stack(parent) if parent else ()
        if len(below) >= MAX_DEPTH:
            raise SystemError_("max depth exceeded")
        home = self._root / layer
        if home.exists():
            self.discard(layer)
        home.mkdir(mode=0o710)
        if size:
            self._limit(home, size)
        short = _short_name()
        # The root directory of a container's layer is its "/": it needs the mode users expect.
        if apart:
            spread(home)
            # The name is what the search for a group begins with: "diff" would lead to where the last
            # layer was, also when it has just been deleted.
            _mkdir(home / short, 0o755)
            os.rename(home / short, home / "diff")
        else:
            _mkdir(home / "diff", 0o755)
        if parent:
            _mkdir(home / "work", 0o700)
            _mkdir(home / "merged", 0o700)
            (home / "lower").write_text(":".join(f"{LINKS}/{name}" for name in below))
        # Written first: who discards what a crash has left must find the name that there may be.
        (home / "link").write_text(short)
        os.symlink(f"../{layer}/diff", self._links / short)
        if below:
            self._match_root(layer, below[0])

    def _limit(self, home: Path, size: int) -> None:
        """Nothing made below the still empty directory *home* may take more than *size* bytes."""
        raise NotImplementedError

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
            stack = (own, *(name.removeprefix(f"{LINKS}/") for name in below.split(":") if name))
            self._stacks[layer] = stack
        return stack

    def extraction(self, layer: str) -> Extraction:
        return Extraction(self._root / layer / "diff", Whiteouts.OVERLAY)

    def difference(self, layer: str) -> Path | None:
        return self._root / layer / "diff"

    def _joined(self, layer: str, parent: str, *, read_only: bool) -> list[str]:
        """Options of an overlay of *layer* and all below it; empty when there is nothing below."""
        home = self._root / layer
        below = [f"{self._links}/{name}" for name in (self._stack(parent) if parent else ())]
        if not below:
            return []
        if read_only:
            return ["ro", "lowerdir=" + ":".join([str(home / "diff"), *below])]
        return ["lowerdir=" + ":".join(below), f"upperdir={home}/diff", f"workdir={home}/work"]

    def discard(self, layer: str) -> None:
        self._stacks.pop(layer, None)
        home = self._root / layer
        try:
            short = (home / "link").read_text()
        except (OSError, ValueError):
            short = ""
        try:
            os.rename(home, self.trash / f"{layer}.{secrets.token_hex(4)}")
        except FileNotFoundError:
            return
        # After the directory: what is there under its id is found by its short name as well.
        if short:
            with contextlib.suppress(OSError):
                os.unlink(self._links / short)
        else:
            self._sweep_links()  # it was lost, or not written yet

    def rename(self, layer: str, new: str) -> None:
        stack = self._stack(layer)
        link = self._links / stack[0]
        fresh = self._links / f".{stack[0]}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(f"../{new}/diff")
        os.rename(fresh, link)
        # Last: what is there under its final id is found by its short name as well.
        os.rename(self._root / layer, self._root / new)
        self._stacks[new] = self._stacks.pop(layer)

    def layers(self) -> set[str]:
        self._sweep_links()
        return {name for name in os.listdir(self._root) if name not in (LINKS, TRASH, DEVICE)}

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


def _mkdir(path: Path, mode: int) -> None:
    os.mkdir(path)
    os.chmod(path, mode)
