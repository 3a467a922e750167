"""What an engine keeps of images: its database and its directories, and whether they agree."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

from services.engine.layers import chain_ids

#: In place of a layer where an image has none.
NO_LAYER = "0" * 64
#: Where a graph driver has its layers, below its directory, if not there itself.
_PLACES = {"vfs": "dir", "btrfs": "subvolumes"}
_NO_LAYERS = {"l", "trash", "quotas", "backingFsBlockDev"}


class Stored:
    """The database and the directories of a daemon; *containers* are those it has.

    While it is at work they may differ for a moment.
    """

    def __init__(self, data_root: Path, driver: str = "overlay2", containers: set[str] | None = None) -> None:
        self.containers = containers or set()
        self._database(data_root / "engine.db")
        home, stored = data_root / driver, data_root / "image" / driver
        found = set(os.listdir(home / _PLACES.get(driver, ""))) - _NO_LAYERS
        self.inits = {name.removesuffix("-init") for name in found if name.endswith("-init")}
        self.directories = {name for name in found if not name.endswith("-init")}
        self.links = _links(home / "l")
        # All but overlays are without links.
        self.linked = found if (home / "l").exists() else set()
        self.splits = set(os.listdir(stored / "layerdb"))
        blobs = stored / "imagedb" / "content" / "sha256"
        self.blobs = set(os.listdir(blobs))
        #: Chain ids of the images' topmost layers.
        self.tops = {top for name in self.images & self.blobs for top in _top(blobs / name)}
        self.temporary = set(os.listdir(data_root / "tmp"))
        self.trash = set(os.listdir(home / "trash"))

    def _database(self, path: Path) -> None:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=90) as database:

            def rows(sql: str) -> set[str]:
                return {row[0] for row in database.execute(sql)}

            self.layers = rows("SELECT cache_id FROM layers")
            self.chains = rows("SELECT chain_id FROM layers")
            self.parents = rows("SELECT parent FROM layers") - {""}
            self.images = {name.removeprefix("sha256:") for name in rows("SELECT id FROM images")}
            parents = rows("SELECT parent FROM images") - {""}
            self.image_parents = {name.removeprefix("sha256:") for name in parents}
            self.named = {name.removeprefix("sha256:") for name in rows("SELECT image_id FROM image_names")}
            self.read_write = rows("SELECT container_id FROM rw_layers")
            self.used = rows("SELECT chain_id FROM rw_layers") - {""}
        database.close()

    def problem(self) -> str:
        """What does not agree, "" if everything does."""
        lost = {name for name in self.splits if not name.endswith(".split")}
        pairs = {
            "layers and their users": (self.chains, self.tops | self.parents | self.used),
            "layers and directories": (self.layers | self.containers, self.directories),
            "layers and splits": (self.layers, {name.removesuffix(".split") for name in self.splits - lost}),
            "lost contents of no layer": ({name.removesuffix(".lost") for name in lost} - self.layers, set()),
            "directories and their short names": (self.linked, set(self.links.values())),
            "two short names of one directory": (len(self.links), len(set(self.links.values()))),
            "images and their configurations": (self.images, self.blobs),
            "names of images that are not there": (self.named - self.images, set()),
            "parents that are not there": (self.image_parents - self.images, set()),
            "containers and their layers": (self.containers, self.read_write),
            "temporary files": (self.temporary - {"root"}, set()),
            "trash": (self.trash, set()),
            "directories over layers that are not there": (
                self.inits - self.layers - self.containers - {NO_LAYER},
                set(),
            ),
        }
        return "; ".join(f"{what}: {one} / {other}" for what, (one, other) in pairs.items() if one != other)


def _links(directory: Path) -> dict[str, str]:
    """Short name -> layer."""
    if not directory.exists():
        return {}
    targets: dict[str, str] = {}
    for name in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):  # it goes just now
            targets[name] = os.readlink(directory / name).removeprefix("../").removesuffix("/diff")
    return targets


def _top(blob: Path) -> list[str]:
    """The chain of a configuration's layers, if it has any and is there."""
    try:
        data = blob.read_bytes()
    except FileNotFoundError:  # it goes just now
        return []
    return chain_ids(json.loads(data)["rootfs"]["diff_ids"] or [])[-1:]
