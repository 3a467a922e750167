"""Which graph driver a daemon uses: the one asked for, the one its data is in, else the best there is.

As dockerd chooses (moby ``daemon/graphdriver/driver.go``), with one difference: layers of vfs count as
a choice, too. Layers that nobody would look at any more are worse than a slow driver.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.engine.graphdrivers.base import DEVICE, NOT_SUPPORTED, PREREQUISITES, GraphDriver, Unusable
from services.engine.graphdrivers.btrfs import Btrfs
from services.engine.graphdrivers.fuse_overlayfs import FuseOverlayfs
from services.engine.graphdrivers.overlay2 import Overlay2
from services.engine.graphdrivers.vfs import Vfs
from services.engine.helpers import Helpers
from services.protocol.errors import InvalidParameter, SystemError_, WharfError

log = logging.getLogger(__name__)

_Make = Callable[[Path, Helpers, Mapping[str, str]], GraphDriver]

DRIVERS: dict[str, _Make] = {
    "overlay2": Overlay2,
    "fuse-overlayfs": FuseOverlayfs,
    "btrfs": Btrfs,
    "vfs": Vfs,
}
#: Docker's order of preference.
PRIORITY = ("overlay2", "fuse-overlayfs", "btrfs", "zfs", "vfs")
#: What Docker had once: refused with its text.
REMOVED = ("aufs", "devicemapper", "overlay")
#: What is in a driver's directory without being a layer.
_NO_LAYERS = ("l", "trash", "quotas", DEVICE)
#: Where the layers are, if not in the driver's directory itself.
_PLACES = {"vfs": "dir", "btrfs": "subvolumes"}


def choose(data_root: Path, wanted: str, options: Sequence[str], helpers: Helpers) -> GraphDriver:
    """The prepared driver. *options* are ``--storage-opt`` values (``overlay2.name=value``).

    Raises ``InvalidParameter`` for a bad option, ``SystemError_`` for a driver that does not exist or
    cannot work on *data_root*, and when the data root holds layers of more than one driver.
    """
    parsed = _parse(options)
    try:
        if wanted:
            return _make(data_root, wanted, parsed, helpers)
        return _choose(data_root, parsed, helpers)
    except Unusable as error:
        text = f"{error}: {wanted}" if wanted else str(error)
        raise SystemError_(f"error initializing graphdriver: {text} ({error.reason})") from error
    except WharfError as error:
        text = f"{error}: {wanted}" if wanted else str(error)
        raise type(error)(f"error initializing graphdriver: {text}") from error


def _choose(data_root: Path, options: Mapping[str, str], helpers: Helpers) -> GraphDriver:
    found = [name for name in PRIORITY if _has_layers(data_root, name)]
    if len(found) > 1:
        raise SystemError_(
            f"{data_root} contains several valid graphdrivers: {', '.join(found)}; "
            "cleanup or explicitly choose storage driver (-s <DRIVER>)"
        )
    if found:
        # No other instead of one that fails: its images would seem to have vanished.
        log.info("using prior storage driver: %s", found[0])
        return _make(data_root, found[0], options, helpers)
    for name in PRIORITY:
        try:
            return _make(data_root, name, options, helpers)
        except Unusable as error:
            log.info("storage driver %s: %s (%s)", name, error, error.reason)
    raise SystemError_("no supported storage driver found")


def _make(data_root: Path, name: str, options: Mapping[str, str], helpers: Helpers) -> GraphDriver:
    if name in REMOVED:
        raise SystemError_(
            f"[graphdriver] ERROR: the {name} storage-driver has been deprecated and removed; "
            "visit https://docs.docker.com/go/storage-driver/ for more information"
        )
    if name == "zfs":
        raise _no_zfs()
    if name not in DRIVERS:
        raise Unusable(NOT_SUPPORTED, f"there are {', '.join(DRIVERS)}")
    driver = DRIVERS[name](data_root / name, helpers, options)
    if other := _recorded(data_root, besides=name):
        raise SystemError_(
            f"the images in {data_root} are those of the storage driver {other}: "
            "choose that, or another data root"
        )
    driver.prepare()
    return driver


def _recorded(data_root: Path, *, besides: str) -> str:
    """A driver whose layers the database has; it has those of one at a time."""
    for splits in (data_root / "image").glob("*/layerdb/*.split"):
        if (name := splits.parts[-3]) != besides:
            return name
    return ""


def _no_zfs() -> Unusable:
    if shutil.which("zfs") is None:
        return Unusable(PREREQUISITES, "the zfs command is not available")
    if not os.path.exists("/dev/zfs"):
        return Unusable(PREREQUISITES, "cannot open /dev/zfs")
    return Unusable(NOT_SUPPORTED, "wharfd has no zfs driver; overlay2 works on ZFS 2.2 and later")


def _has_layers(data_root: Path, name: str) -> bool:
    place = data_root / name / _PLACES.get(name, "")
    if not place.is_dir():
        return False
    return any(name not in _NO_LAYERS and not name.startswith(".") for name in os.listdir(place))


def _parse(options: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            raise InvalidParameter(f"unable to parse storage-opt key/value: {option}")
        found[key.strip().lower()] = value.strip()
    return found
