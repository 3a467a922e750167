"""Which graph driver a daemon uses: the one asked for, the one its data is in, else the best there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.engine.graphdrivers import overlay2
from services.engine.graphdrivers.base import GraphDriver
from services.engine.graphdrivers.vfs import Vfs
from services.engine.helpers import Helpers
from services.protocol.errors import InvalidParameter, SystemError_

_Make = Callable[[Path, Helpers, Mapping[str, str]], GraphDriver]

#: In order of preference.
DRIVERS: dict[str, _Make] = {"overlay2": overlay2.Overlay2, "vfs": Vfs}
#: Drivers that dockerd has or had, refused by name.
KNOWN = ("aufs", "btrfs", "devicemapper", "fuse-overlayfs", "overlay", "windowsfilter", "zfs")


def choose(data_root: Path, wanted: str, options: Sequence[str], helpers: Helpers) -> GraphDriver:
    """The prepared driver. *options* are ``--storage-opt`` values (``overlay2.name=value``).

    Raises ``InvalidParameter`` for an unknown or unsupported name, ``SystemError_`` when the driver
    cannot work on *data_root* or the data root holds layers of more than one driver.
    """
    name = wanted or _stored(data_root) or _best(data_root)
    if name not in DRIVERS:
        if name in KNOWN:
            raise InvalidParameter(f"storage driver {name} is not supported; use one of {', '.join(DRIVERS)}")
        raise InvalidParameter(f"graphdriver: driver not supported: {name}")
    if name == "overlay2":
        overlay2.probe(data_root)
    driver = DRIVERS[name](data_root / name, helpers, _options_of(name, options))
    driver.prepare()
    return driver


def _stored(data_root: Path) -> str:
    """The driver that has layers below *data_root*."""
    found = [name for name in DRIVERS if _has_layers(data_root / name)]
    if len(found) > 1:
        raise SystemError_(
            f"{data_root} contains several valid graphdrivers: {', '.join(found)}; "
            "choose one explicitly with --storage-driver"
        )
    return found[0] if found else ""


def _has_layers(home: Path) -> bool:
    places = [home / "dir"] if home.name == "vfs" else [home]
    return any(
        entry.name not in ("l", "trash", "dir")
        for place in places
        if place.is_dir()
        for entry in place.iterdir()
    )


def _best(data_root: Path) -> str:
    try:
        overlay2.probe(data_root)
    except SystemError_:
        return "vfs"
    return "overlay2"


def _options_of(name: str, options: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator:
            raise InvalidParameter(f"storage option is not of the form name=value: {option}")
        driver, _, key = key.partition(".")
        if driver != name:
            raise InvalidParameter(f"storage option {option} is not for the driver {name}")
        found[key] = value
    return found
